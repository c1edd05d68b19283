// Many pairs at once, each with the proposed verdict; one key saves them all.

import { count, el, fill, text } from "./dom.js";
import { before, evidence, picture } from "./cards.js";
import { VERDICTS } from "./words.js";

const PAIRS = 24;

export class PairView {
  constructor(app) {
    this.app = app;
    this.page = null;
    this.focus = 0;
  }

  get work() { return this.app.work; }

  /** Choose the first items whose open pairs fill a page. */
  load() {
    const items = [];
    let n = 0;
    for (const item of this.work.queue) {
      const open = item.questions.filter((one) => one.open).length;
      if (items.length && n + open > PAIRS) break;
      items.push(item);
      n += open;
      if (n >= PAIRS) break;
    }
    this.items = items;
    this.page = items.flatMap((item) => item.questions.filter((one) => one.open).map((question) => ({ item, question, verdict: question.proposed })));
    this.focus = 0;
    this.shownAt = performance.now();
  }

  render(root) {
    const isStale = !this.page || !this.page.length || this.items.some((item) => !this.work.queue.includes(item));
    if (isStale) this.load();
    if (!this.page.length) { this.app.views.groups.item = null; this.app.views.groups.empty(root); return; }
    fill(root,
      el("section", { class: "page-head" },
        el("p", {}, `${count(this.page.length, "pair")}. Press 1 to 5 to change the one in focus, Enter to save all.`),
        el("button", { type: "button", class: "primary", "aria-keyshortcuts": "Enter", onclick: () => this.save() }, el("kbd", {}, "Enter"), ` Save ${count(this.page.length, "pair")}`),
        el("button", { type: "button", "aria-keyshortcuts": "Z", onclick: () => this.app.undo() }, "Undo ", el("kbd", {}, "Z"))),
      el("ol", { class: "pairs" }, ...this.page.map((row, at) => this.card(row, at))));
    root.querySelector(".pair.focused")?.scrollIntoView({ block: "nearest" });
  }

  card(row, at) {
    const products = new Map(row.item.products.map((one) => [one.id, one]));
    const { question } = row;
    const ends = [question.left, question.right].sort((one, other) => (one === row.item.kept ? -1 : other === row.item.kept ? 1 : 0));
    const shown = new Map([[question.left, question.shown[0]], [question.right, question.shown[1]]]);
    return el("li", { class: `pair${at === this.focus ? " focused" : ""} ${row.verdict}`, "aria-current": at === this.focus ? "true" : null,
      onclick: () => { if (this.focus !== at) { this.focus = at; this.app.render(); } } },
      el("div", { class: "two" }, ...ends.map((id) => el("figure", {}, picture(products.get(id), shown.get(id)), el("figcaption", {}, text(products.get(id).cells[0] || id))))),
      evidence(question), before(question),
      el("label", { class: "verdict-of" }, el("span", { class: "unseen" }, "Verdict "),
        el("select", { onchange: (event) => { row.verdict = event.target.value; this.focus = at; this.app.render(); } },
          question.blind ? el("option", { value: "", selected: !row.verdict }, "Decide: nothing is proposed") : null,
          ...VERDICTS.map((one) => el("option", { value: one.verdict, selected: one.verdict === row.verdict }, `${one.key}  ${one.short}`)))));
  }

  save() {
    if (!this.page.length) return;
    const missing = this.page.findIndex((row) => !row.verdict);
    if (missing >= 0) { this.focus = missing; this.app.render(); this.app.decided("One pair has no verdict: press 1 to 5"); return; }
    const took = (performance.now() - this.shownAt) / this.page.length;
    const choices = this.page.map((row) => this.work.choice(row.question, row.verdict, "", took));
    for (const row of this.page) { row.question.open = false; row.question.given = row.verdict; }
    const { items } = this;
    const n = choices.length;
    this.page = null;
    this.work.decide(choices, "page", items, count(n, "pair"));
    this.work.queue = this.work.queue.filter((item) => !items.includes(item));
    this.work.refill().then(() => { this.page = null; this.app.render(); });
    this.app.render();
    this.app.decided(`${count(n, "pair")} saved`);
  }

  key(key) {
    const verdict = this.app.verdictOf(key);
    const row = this.page?.[this.focus];
    if (verdict && row) {
      row.verdict = verdict;
      this.focus = Math.min(this.focus + 1, this.page.length - 1);
      this.app.render();
      return true;
    }
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns(), ArrowUp: -this.columns() };
    if (moves[key] && row) {
      this.focus = Math.max(0, Math.min(this.page.length - 1, this.focus + moves[key]));
      this.app.render();
      return true;
    }
    if (key === "Enter") return this.save(), true;
    if ((key === "f" || key === "d") && row && row.question.shown.every(Boolean)) {
      this.app.viewer.open([row.question.left, row.question.right], row.question.shown, key === "d");
      return true;
    }
    return false;
  }

  columns() {
    const list = document.querySelector(".pairs");
    return list ? getComputedStyle(list).gridTemplateColumns.split(" ").length : 1;
  }
}

