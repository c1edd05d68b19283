// Who decided what: counts, the latest batches, and the history of a product.

import { count, el, fill, text } from "./dom.js";
import { cells, picture } from "./cards.js";
import { get, newBatch } from "./client.js";
import { VERDICTS, WORDS } from "./words.js";

const SOURCES = { key: "one by one", page: "a page", rule: "a rule", import: "imported", carried: "carried over to a new id" };

export class LogView {
  constructor(app) {
    this.app = app;
    this.product = null;
  }

  async load(product = null) {
    this.product = product;
    this.stats = null;
    this.app.render();
    [this.stats, this.batches, this.history] = await Promise.all([get("/api/stats"), get("/api/batches"),
      product === null ? null : get("/api/history", { product })]);
    this.app.render();
  }

  render(root) {
    if (!this.stats) { fill(root, el("p", {}, "Loading…")); return; }
    const find = el("form", { class: "find", onsubmit: (event) => { event.preventDefault(); this.open(new FormData(event.target).get("product")); } },
      el("label", {}, "History of a product ", el("input", { name: "product", id: "find", autocomplete: "off", spellcheck: "false", value: this.product ?? "" })),
      el("button", {}, "Show"));
    fill(root, el("section", { class: "log" }, find, this.history ? this.historyOf() : null, this.statistics(), this.latest()));
  }

  open(product) { this.load(product).catch((error) => { this.product = null; this.load(); this.app.failed(error); }); }

  statistics() {
    const { stats } = this;
    const names = Object.keys(stats.reviewers);
    return el("section", {}, el("h2", {}, "Statistics"),
      el("p", {}, `${count(stats.open, "group")} open of ${stats.total.toLocaleString("en")}. ${count(stats.today, "pair")} decided today. ${stats.reopened ? `${count(stats.reopened, "pair")} asked again, as an image is new. ` : ""}${stats.carried ? `${count(stats.carried, "decision")} carried over to new ids.` : ""}`),
      names.length ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Statistics by reviewer" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Reviewer"), ...VERDICTS.map((one) => el("th", { scope: "col" }, one.short)), el("th", { scope: "col" }, "Holds now"))),
        el("tbody", {}, ...names.map((name) => el("tr", {}, el("th", { scope: "row" }, text(name)),
          ...VERDICTS.map((one) => el("td", {}, String(stats.reviewers[name][one.verdict] ?? 0))), el("td", {}, String(stats.holding[name] ?? 0))))))) : null);
  }

  latest() {
    return el("section", {}, el("h2", {}, "Latest decisions"), el("ul", { class: "batches" }, ...this.batches.batches.map((one) => el("li", { class: one.undone ? "undone" : "" },
      el("span", { class: "when" }, one.made_at.slice(0, 16).replace("T", " ")), " ", text(one.reviewer), ": ",
      one.undoes ? "undid a batch" : one.n === 1 ? [`${WORDS[one.first.verdict]}: `, this.link(one.first.left), " and ", this.link(one.first.right)] : `${count(one.n, "pair")}, ${SOURCES[one.source]}`,
      one.undone ? " (undone)" : el("button", { type: "button", class: "small", onclick: () => this.undo(one) }, one.undoes ? "Do again" : "Undo")))));
  }

  link(product) { return el("button", { type: "button", class: "link", onclick: () => this.open(product) }, text(product)); }

  historyOf() {
    const { product, columns, decisions } = this.history;
    return el("section", { class: "history" }, el("h2", {}, text(product.id)),
      el("div", { class: "product" }, product.images.length ? picture(product) : null, cells(product, columns, null)),
      decisions.length ? el("ul", { class: "batches" }, ...decisions.map((row) => el("li", { class: row.counts ? "" : "undone" },
        el("span", { class: "when" }, row.made_at.slice(0, 16).replace("T", " ")), " ", text(row.reviewer), `: ${WORDS[row.verdict]}, with `,
        this.link(row.left === product.id ? row.right : row.left), ` (${SOURCES[row.source]})`, row.counts ? "" : " (does not count any more)"))) : el("p", {}, "Nobody has decided on it."));
  }

  undo(one) {
    this.app.work.saves.add("/api/undo", { undo: one.batch, batch: newBatch() })
      .then(() => { this.app.work.batches = this.app.work.batches.filter((own) => own.batch !== one.batch); this.app.work.restart(); return this.load(this.product); })
      .catch((error) => this.app.failed(error));
  }

  key() { return false; }
}
