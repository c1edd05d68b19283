(() => {
  "use strict";
  const tools = document.getElementById("tools");
  if (!tools) return;
  const [search, sort, count, list, nothing, status] =
    ["search", "sort", "count", "groups", "nothing", "status"].map((id) => document.getElementById(id));
  const boxes = [...tools.querySelectorAll("[data-tier]")];
  const filters = [...tools.querySelectorAll("[data-filter]")];
  const limits = ["least", "most"].map((id) => document.getElementById(id));
  const [pager, previous, place, next, images, review] =
    ["pager", "previous", "place", "next", "images", "review"].map((id) => document.getElementById(id));
  const PAGE = 100;  // as in html.py
  const idOf = (button) => button.dataset.id ? JSON.parse(button.dataset.id) : button.textContent;
  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const typed = (text) => text.replace(/[\r\n]/g, "");  // what a search field makes of it
  // Groups beyond the first page, and their images, are text in <noscript> until they are shown.
  const cards = [...list.children].map((node) => ({
    node: node.localName === "noscript" ? null : node,
    source: node,
    id: node.dataset.group,
    size: Number(node.dataset.size),
    distance: Number(node.dataset.distance),
    score: node.dataset.score ? Number(node.dataset.score) : NaN,
    tiers: node.dataset.tiers.split(" "),
    values: node.dataset.values.split(" "),
  }));
  const parsed = (source) => {
    const template = document.createElement("template");
    template.innerHTML = source.textContent;
    return document.importNode(template.content.firstElementChild ?? template.content, true);
  };
  const nodeOf = (card) => card.node ??= parsed(card.source);
  const textOf = (card) => card.text ??= fold([card.source.dataset.text]
    .concat(JSON.parse(card.source.dataset.spelled ?? "[]").flatMap((id) => [id, typed(id)]))
    .join("\n"));
  const byId = (a, b) => (a.id > b.id) - (a.id < b.id);
  const score = (card) => Number.isNaN(card.score) ? Infinity : card.score;
  const orders = {
    largest: (a, b) => b.size - a.size,
    closest: (a, b) => a.distance - b.distance,
    farthest: (a, b) => b.distance - a.distance,
    unsure: (a, b) => (score(a) > score(b)) - (score(a) < score(b)),
    id: byId,
  };
  let fitting = cards, page = 0;

  /** Put the images into the page that its groups use; those that are not there yet come later. */
  const fill = (nodes) => {
    const wanted = new Set(nodes.flatMap((node) => [...node.querySelectorAll("use")])
      .map((use) => use.getAttribute("href").slice(1)).filter((name) => !images.querySelector(`#${name}`)));
    if (!wanted.size) return;
    for (const source of document.querySelectorAll("noscript[data-image]")) {
      if (!wanted.has(source.dataset.image)) continue;
      images.append(parsed(source).querySelector("image"));
      source.remove();
    }
  };
  const draw = (size = PAGE) => {
    const shown = fitting.slice(page * size, (page + 1) * size);
    const nodes = shown.map(nodeOf);
    fill(nodes);
    list.replaceChildren(...nodes);
    const n = (number) => number.toLocaleString("en");
    pager.hidden = fitting.length <= size;
    previous.disabled = page === 0;
    next.disabled = (page + 1) * size >= fitting.length;
    place.textContent = `${n(page * size + 1)} to ${n(page * size + shown.length)} of ${n(fitting.length)}`;
  };
  const turn = (step) => {
    page += step;
    draw();
    list.firstElementChild.scrollIntoView();
    status.textContent = `Groups ${place.textContent}`;
  };
  const isBetween = (card) => {
    const [least, most] = limits.map((input, at) => input && input.value !== "" ? Number(input.value) : 100 * at);
    if (least <= 0 && most >= 100) return true;
    return 100 * card.score >= least - 1e-9 && 100 * card.score <= most + 1e-9;  // not for unknown ones
  };
  const show = () => {
    const words = fold(search.value).split(/\s+/).filter(Boolean);
    const tiers = new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.tier));
    const values = filters.map((select) => select.value).filter(Boolean);
    const order = orders[sort.value];
    fitting = cards.filter((card) => (tiers.size === boxes.length || card.tiers.some((tier) => tiers.has(tier)))
      && values.every((value) => card.values.includes(value))
      && isBetween(card)
      && words.every((word) => textOf(card).includes(word)))
      .sort((a, b) => order(a, b) || byId(a, b));
    page = 0;
    draw();
    const all = cards.length.toLocaleString("en");
    const noun = cards.length === 1 ? "group" : "groups";
    const verb = cards.length > PAGE ? (fitting.length === 1 ? "fits" : "fit") : "shown";
    count.textContent = fitting.length === cards.length
      ? `${all} ${noun}${cards.length > PAGE ? "" : " shown"}` : `${fitting.length.toLocaleString("en")} of ${all} ${noun} ${verb}`;
    nothing.hidden = fitting.length > 0;
  };
  const reset = () => {
    search.value = "";
    for (const box of boxes) box.checked = true;
    for (const select of filters) select.value = "";
    limits.forEach((input, at) => { if (input) input.value = 100 * at; });
    show();
    search.focus();
  };
  const copy = async (text, target) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const give = (event) => {
        event.clipboardData.setData("text/plain", text);
        event.preventDefault();
      };
      document.addEventListener("copy", give);
      getSelection().selectAllChildren(target);
      document.execCommand("copy");
      document.removeEventListener("copy", give);
    }
  };

  search.addEventListener("input", show);
  for (const input of [...boxes, ...filters, sort]) input.addEventListener("change", show);
  for (const input of limits) input?.addEventListener("input", show);
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  nothing.querySelector("button").addEventListener("click", reset);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      show();
    }
  });
  list.addEventListener("click", async (event) => {
    const button = event.target.closest(".id");
    if (!button) return;
    await copy(idOf(button), button.firstElementChild);
    status.textContent = `Copied ${button.textContent}`;
    button.dataset.copied = "";
    setTimeout(() => delete button.dataset.copied, 1200);
  });

  if (review) {
    const folder = location.protocol === "file:"
      ? decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "") : "";
    const code = review.querySelector("code"), button = review.querySelector("button");
    const known = /^[\w/.:@+-]+$/.test(folder) ? folder : /^[^'"`$\\!%\p{C}]+$/u.test(folder) ? `'${folder}'` : "";
    if (known) {
      const setting = known.startsWith("'") ? `"findings=${known}"` : `findings=${known}`;
      code.textContent = code.textContent.replace("findings=FOLDER", () => setting);
      review.querySelector(".where").remove();
    }
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy(code.textContent, code);
      status.textContent = "Copied the command";
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1200);
    });
  }
  addEventListener("beforeprint", () => {
    const before = page;
    page = 0;
    draw(Math.max(fitting.length, 1));
    page = before;
  });
  addEventListener("afterprint", () => draw());
  document.addEventListener("DOMContentLoaded", () => fill([...list.children]));
  tools.hidden = false;
  show();
})();
