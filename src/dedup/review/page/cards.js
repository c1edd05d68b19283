// Products and pairs as elements.

import { el, text } from "./dom.js";
import { pictureOf } from "./client.js";
import { imageOf } from "./images.js";
import { outline } from "./viewer.js";
import { VERDICTS, WORDS } from "./words.js";

/** The picture of a product, with the differing region outlined if it is compared. */
export function picture(product, digest, other, isOutlined) {
  const shown = digest || product.images[0];
  if (!shown) return el("div", { class: "no-image" }, "no image");
  const frame = el("span", { class: "frame" }, imageOf(shown, `Image of ${product.id}`));
  if (isOutlined && other && other !== shown) setTimeout(() => frame.isConnected && outline(frame, other, shown), 400);
  return frame;
}

/** The cells of a product; those that differ from another product's are marked. */
export function cells(product, columns, other, most = 8) {
  const rows = columns.map((name, at) => [name, product.cells[at] || "", other ? other.cells[at] || "" : null])
    .filter(([, cell, against]) => cell || against);
  const list = rows.slice(0, most).map(([name, cell, against]) => {
    const differs = against !== null && against !== cell;
    return [el("dt", {}, text(name)), el("dd", { class: differs ? "differs" : "", title: differs ? "differs" : null },
      cell ? parts(cell, against) : "–", differs ? el("span", { class: "unseen" }, " (differs)") : null)];
  });
  return el("dl", { class: "cells" }, ...list.flat());
}

/** A cell in words; those that the other cell lacks are marked. */
function parts(cell, against) {
  if (against === null || against === cell) return text(cell);
  const known = new Set(against.toLowerCase().split(/\s+/));
  const words = cell.split(/(\s+)/);
  return words.map((word) => (/^\s*$/.test(word) ? word : known.has(word.toLowerCase()) ? text(word) : el("mark", {}, text(word))));
}

/** How sure a pair is, and the evidence in words. */
export function evidence(question) {
  if (question.blind) return el("p", { class: "evidence" }, "Drawn by chance to measure the search: what it thinks is not shown");
  const { score } = question;
  const percent = score >= 0.995 && score < 1 ? "over 99" : Math.round(score * 100);
  const sure = score === null ? "" : `${percent} % `;
  const words = question.words && question.words !== question.tier ? `: ${question.words}` : "";
  return el("p", { class: "evidence" }, `${sure}${question.tier}`, words ? text(words) : "");
}

/** What was decided on a pair before its image was new. */
export function before(question) {
  const old = question.before;
  if (!old) return null;
  const pictures = old.shown.filter(Boolean).map((digest) => el("img", { src: pictureOf(digest), alt: "Image that was looked at then", class: "old" }));
  for (const image of pictures) image.addEventListener("error", () => image.remove());
  return el("div", { class: "before" }, el("p", {}, "Asked again, as an image is new: ", text(old.reviewer), ` said “${WORDS[old.verdict]}” on ${old.made_at.slice(0, 10)}`), ...pictures);
}

/** Buttons of the five verdicts. */
export function verdictButtons(give, chosen, label) {
  return el("div", { class: "verdicts", role: "group", "aria-label": label }, VERDICTS.map((one) => el("button", {
    type: "button", class: `verdict ${one.verdict}`, "aria-keyshortcuts": one.key, "aria-pressed": String(chosen === one.verdict),
    onclick: () => give(one.verdict),
  }, el("kbd", {}, one.key), " ", one.short)));
}
