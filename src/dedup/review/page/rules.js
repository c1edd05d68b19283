// Rules: groups of one kind are decided together, once random ones of them were looked at.

import { count, el, fill, text, warn } from "./dom.js";
import { evidence, picture } from "./cards.js";
import { get, newBatch } from "./client.js";
import { WORDS } from "./words.js";

export class RuleView {
  constructor(app) {
    this.app = app;
    this.rules = null;
    this.sample = null;
  }

  async load() {
    this.rules = (await get("/api/rules")).rules;
    this.sample = null;
    this.app.render();
  }

  render(root) {
    if (this.sample) { this.renderSample(root); return; }
    if (!this.rules) { fill(root, el("p", {}, "Loading…")); return; }
    fill(root, el("section", { class: "rules" }, el("h2", {}, "Rules"),
      el("p", {}, "A rule decides all groups of one kind. It opens after you have looked at 30 of them, drawn at random."),
      this.rules.length ? el("ul", {}, ...this.rules.map((rule) => el("li", {},
        el("span", {}, text(rule.words)), el("strong", {}, count(rule.open, "group")),
        el("button", { type: "button", onclick: () => this.look(rule.rule) }, "Look at some")))) : el("p", {}, "No group is open.")));
  }

  async look(rule) {
    try {
      this.sample = await get("/api/sample", { rule });
      this.seen = new Set();
      this.app.render();
    } catch (error) {
      this.app.failed(error);
    }
  }

  renderSample(root) {
    const { rule, items } = this.sample;
    const commit = el("button", { type: "button", class: "primary", disabled: true, onclick: () => this.commit() },
      `${WORDS[rule.proposed]}: all ${count(rule.open, "group")}`);
    const left = el("span", { class: "note" }, "");
    const list = el("ol", { class: "pairs" }, ...items.map((item) => this.card(item)));
    fill(root, el("section", { class: "page-head" },
      el("button", { type: "button", onclick: () => this.load() }, "Back"), el("p", {}, text(rule.words)), left, commit), list);
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.seen.add(entry.target);
      const missing = items.length - this.seen.size;
      left.textContent = missing ? `scroll to see ${count(missing, "more", "more")}` : "";
      commit.disabled = missing > 0;
    }, { threshold: 0.5 });
    for (const card of list.children) watch.observe(card);
  }

  card(item) {
    const products = new Map(item.products.map((one) => [one.id, one]));
    const question = item.questions[0];
    const ends = [question.left, question.right];
    return el("li", { class: "pair" },
      el("div", { class: "two" }, ...ends.map((id, at) => el("figure", {}, picture(products.get(id), question.shown[at]), el("figcaption", {}, text(products.get(id).cells[0] || id))))),
      item.products.length > 2 ? el("p", { class: "note" }, `and ${item.products.length - 2} more`) : null, evidence(question));
  }

  commit() {
    const { rule } = this.sample;
    const batch = newBatch();
    this.app.work.saves.add("/api/rule", { batch, rule: rule.rule }).then((answer) => {
      this.app.work.batches.push({ batch, label: `${count(answer.n, "pair")} by a rule`, items: [] });
      this.app.decided(`${count(answer.n, "pair")} decided by a rule. Z undoes them all`);
      this.app.work.restart();
      return this.load();
    }).catch((error) => { this.app.failed(error); this.load().catch((again) => warn(again.message)); });
  }

  key(key) {
    if (key === "Escape" && this.sample) { this.load(); return true; }
    return false;
  }
}
