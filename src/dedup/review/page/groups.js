// One group at a time: the product to keep on the left, the others beside it.

import { el, fill, text } from "./dom.js";
import { before, cells, evidence, picture, verdictButtons } from "./cards.js";
import { WORDS } from "./words.js";

export class GroupView {
  constructor(app) {
    this.app = app;
    this.item = null;
    this.focus = 0;
    this.kept = "";
    this.given = new Map();
  }

  get work() { return this.app.work; }

  render(root) {
    const item = this.work.queue[0];
    if (!item) { this.item = null; this.empty(root); return; }
    if (item !== this.item) {
      this.item = item;
      this.kept = item.kept;
      this.given = new Map();
      this.focus = 0;
      this.shownAt = performance.now();
      this.showAll = false;
    }
    const open = this.open();
    this.focus = Math.max(0, Math.min(this.focus, open.length - 1));
    const products = new Map(item.products.map((one) => [one.id, one]));
    const first = open[this.focus] ?? open[0];
    const left = products.get(item.kept);
    const settled = item.questions.filter((one) => !one.open);
    fill(root,
      el("section", { class: "group", "aria-label": "Group" },
        el("article", { class: "product left", "aria-label": `Kept: ${item.kept}` },
          el("p", { class: "badge" }, first?.blind ? "One product" : this.kept === item.kept ? "Keep" : "Kept so far"),
          picture(left, this.shownOf(first, item.kept)),
          el("p", { class: "id" }, text(item.kept)),
          cells(left, item.columns, null)),
        el("div", { class: "strip", role: "list" }, ...open.map((question, at) => this.card(question, at, products)),
          settled.length ? this.settledCard(settled, products) : null)),
      this.bar(open, first));
    root.querySelector(".product.focused")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  open() { return this.item ? this.item.questions.filter((one) => one.open) : []; }

  shownOf(question, product) {
    if (!question) return "";
    if (question.left === product) return question.shown[0];
    return question.right === product ? question.shown[1] : "";
  }

  card(question, at, products) {
    const product = products.get(question.member);
    const partner = products.get(question.left === question.member ? question.right : question.left);
    const isFocused = at === this.focus;
    return el("article", { class: `product${isFocused ? " focused" : ""}`, role: "listitem", "aria-current": isFocused ? "true" : null,
      "data-product": product.id, onclick: () => { if (this.focus !== at) { this.focus = at; this.app.render(); } } },
      el("p", { class: `badge proposed ${question.proposed}` }, this.kept === product.id ? "Keep" : question.blind ? "Check by chance" : `Proposed: ${WORDS[question.proposed].toLowerCase()}`),
      picture(product, this.shownOf(question, product.id), this.shownOf(question, partner.id), isFocused),
      el("p", { class: "id" }, text(product.id)),
      partner.id === this.item.kept ? null : el("p", { class: "note" }, "compared with ", text(partner.id)),
      evidence(question), before(question), this.conflict(question), cells(product, this.item.columns, partner));
  }

  conflict(question) {
    if (!question.conflict) return null;
    const who = question.conflict.decisions.map((row) => [text(row.reviewer), ` said “${WORDS[row.verdict]}” of `, text(row.left), " and ", text(row.right), ". "]);
    return el("p", { class: "conflict" }, who.flat(), "Decide again to overrule.");
  }

  settledCard(settled, products) {
    const names = settled.map((one) => one.member);
    return el("details", { class: "settled" }, el("summary", {}, `${settled.length} settled`),
      el("ul", {}, ...names.map((name, at) => el("li", {}, text(name), `: ${WORDS[settled[at].verdict || settled[at].given] ?? "settled"}`))));
  }

  bar(open, first) {
    const many = open.length > 1;
    return el("section", { class: "bar", "aria-label": "Decide" },
      verdictButtons((verdict) => this.give(verdict), null, "Verdict on the product in focus"),
      el("div", { class: "tools" },
        first?.blind ? null : el("button", { type: "button", class: "primary", "aria-keyshortcuts": "Enter", onclick: () => this.accept() },
          el("kbd", {}, "Enter"), many ? ` As proposed, all ${open.length}` : first ? ` ${WORDS[first.proposed]}` : ""),
        this.button("Skip", "Space", () => this.skip()), this.button("Undo", "Z", () => this.app.undo()),
        this.button("Keep this", "K", () => this.keep()), this.button("Take out", "X", () => this.give("different")),
        this.button("Flick", "F", () => this.view(false)), this.button("Difference", "D", () => this.view(true))));
  }

  button(label, key, call) {
    return el("button", { type: "button", "aria-keyshortcuts": key, onclick: call }, label, " ", el("kbd", {}, key));
  }

  empty(root) {
    const more = this.app.filter ? " with this filter" : "";
    fill(root, el("section", { class: "done" }, el("h2", {}, this.work.isEmpty ? `Nothing is open${more}` : "Loading…"),
      this.work.isEmpty ? el("p", {}, "Every group was decided on, is skipped until tomorrow, or is with another reviewer.") : null,
      this.work.isEmpty ? this.button("Undo", "Z", () => this.app.undo()) : null));
  }

  give(verdict) {
    const open = this.open();
    const question = open[this.focus];
    if (!question) return;
    const item = this.item;
    const choice = this.work.choice(question, verdict, this.kept === item.kept ? "" : this.kept, performance.now() - this.shownAt);
    question.open = false;
    question.given = verdict;
    const isDone = !this.open().length;
    this.work.decide([choice], "key", [item], WORDS[verdict]);
    if (isDone) this.next();
    if (!isDone) this.shownAt = performance.now();
    this.app.render();
    this.app.decided(`${WORDS[verdict]}`);
  }

  accept() {
    const open = this.open();
    if (!open.length) return;
    if (open.some((one) => one.blind)) { this.app.decided("Nothing is proposed here: press 1 to 5"); return; }
    const took = (performance.now() - this.shownAt) / open.length;
    const kept = this.kept === this.item.kept ? "" : this.kept;
    const choices = open.map((one) => this.work.choice(one, one.proposed, kept, took));
    for (const one of open) { one.open = false; one.given = one.proposed; }
    this.work.decide(choices, "key", [this.item], "As proposed");
    this.next();
    this.app.render();
    this.app.decided("As proposed");
  }

  next() {
    this.work.queue.shift();
    this.work.refill().then(() => { if (!this.item || !this.work.queue.includes(this.item)) this.app.render(); });
  }

  skip() {
    if (!this.item) return;
    this.work.skip([this.item]);
    this.work.refill().then(() => this.app.render());
    this.app.render();
    this.app.decided("Skipped until tomorrow");
  }

  keep() {
    const question = this.open()[this.focus];
    if (!question) return;
    this.kept = this.kept === question.member ? this.item.kept : question.member;
    this.app.render();
  }

  view(isDifference) {
    const question = this.open()[this.focus];
    if (!question || !question.shown[0] || !question.shown[1]) return;
    const isLeft = question.right === question.member;
    const names = isLeft ? [question.left, question.right] : [question.right, question.left];
    const shown = isLeft ? question.shown : [question.shown[1], question.shown[0]];
    this.app.viewer.open(names, shown, isDifference);
  }

  key(key) {
    const verdict = this.app.verdictOf(key);
    if (verdict) return this.give(verdict), true;
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (moves[key]) {
      const n = this.open().length;
      if (n) this.focus = (this.focus + moves[key] + n) % n;
      this.app.render();
      return true;
    }
    const calls = { Enter: () => this.accept(), " ": () => this.skip(), k: () => this.keep(), x: () => this.give("different"),
      f: () => this.view(false), d: () => this.view(true) };
    if (!calls[key]) return false;
    calls[key]();
    return true;
  }
}
