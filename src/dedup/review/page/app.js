// The review app: views, keys, and what is said to the reviewer.

import { $, count, el, fill, say, warn } from "./dom.js";
import { enter, get } from "./client.js";
import { GroupView } from "./groups.js";
import { LogView } from "./log.js";
import { PairView } from "./pairs.js";
import { RuleView } from "./rules.js";
import { Viewer } from "./viewer.js";
import { KEYS, VERDICTS } from "./words.js";
import { Work } from "./work.js";

class App {
  constructor() {
    this.order = "sure";
    this.filter = "";
    this.view = "groups";
    this.pending = 0;
    this.viewer = new Viewer();
    this.work = new Work(this);
    this.views = { groups: new GroupView(this), pairs: new PairView(this), rules: new RuleView(this), log: new LogView(this) };
  }

  async start() {
    await enter();
    this.me = await get("/api/me");
    this.listFilters();
    this.listKeys();
    document.addEventListener("keydown", (event) => this.key(event));
    for (const button of $("views").children) button.addEventListener("click", () => this.show(button.dataset.view));
    $("help-button").addEventListener("click", () => $("help").showModal());
    $("choose").addEventListener("change", () => this.choose());
    $("choose").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("beforeunload", (event) => { if (this.pending) event.preventDefault(); });
    this.render();
    await this.work.refill();
    this.render();
    document.body.dataset.ready = "true";
  }

  listFilters() {
    for (const [name, values] of Object.entries(this.me.facets)) {
      const group = el("optgroup", { label: name });
      for (const [value, n] of values) group.append(el("option", { value: `${name}=${value}` }, `${value} (${n})`));
      $("filter").append(group);
    }
  }

  listKeys() { fill($("help-keys"), ...KEYS.flatMap(([keys, meaning]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, meaning)])); }

  async choose() {
    this.order = $("order").value;
    this.filter = $("filter").value;
    try {
      await this.work.restart();
    } catch (error) {
      this.failed(error);
    }
    this.views.pairs.page = null;
    this.render();
  }

  show(view) {
    this.view = view;
    for (const button of $("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    $("choose").hidden = view === "rules" || view === "log";
    this.views.pairs.page = null;
    this.render();
    const current = this.views[view];
    if (current.load && view !== "pairs") current.load().catch((error) => this.failed(error));
    $("work").focus({ preventScroll: true });
  }

  render() {
    const focused = $("work").querySelector("button:focus-visible")?.getAttribute("aria-keyshortcuts");
    $("work").replaceChildren(); // so that decoded images can be taken again
    this.views[this.view].render($("work"));
    if (focused) $("work").querySelector(`button[aria-keyshortcuts="${CSS.escape(focused)}"]`)?.focus();
    this.counted();
  }

  counted() {
    const { open } = this.work;
    const saving = this.pending ? `, ${count(this.pending, "save")} on the way` : "";
    $("counts").textContent = `${count(open, "group")} open${saving}`;
  }

  saving(n) { this.pending = n; this.counted(); }

  decided(message) { say(message); }

  undo() {
    if (!this.work.undo()) say("Nothing to undo in this session. The decisions have older ones");
  }

  undone(entry) {
    this.views.groups.item = null;
    this.views.pairs.page = null;
    this.render();
    say(`Undone: ${entry.label}`);
  }

  cameBack(error) {
    this.views.groups.item = null;
    this.views.pairs.page = null;
    this.render();
    this.failed(error);
  }

  failed(error) {
    if (error.status === 401) warn("This page was opened by an old link. Start python review.py again and open the link that it prints.");
    else if (error.status) warn(`Not saved: ${error.message}`);
    else warn("Not saved: the server does not answer. Start it again; what came back is shown first.");
  }

  verdictOf(key) { return VERDICTS.find((one) => one.key === key)?.verdict ?? null; }

  key(event) {
    const target = event.target;
    const isTyping = target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || this.viewer.isOpen || $("help").open) return;
    const isPressed = (event.key === "Enter" || event.key === " ") && target instanceof HTMLElement && target.closest("button, summary, a, dialog");
    if (isPressed) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const shared = { z: () => this.undo(), "?": () => $("help").showModal(), "/": () => { this.show("log"); setTimeout(() => $("find")?.focus(), 300); } };
    if (shared[key]) { event.preventDefault(); shared[key](); return; }
    if (this.views[this.view].key(key)) event.preventDefault();
  }
}

const app = new App();
app.start().catch((error) => app.failed(error));
