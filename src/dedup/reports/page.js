(() => {
  "use strict";
  const tools = document.getElementById("tools");
  if (!tools) return;
  const [search, sort, count, list, nothing, status] =
    ["search", "sort", "count", "groups", "nothing", "status"].map((id) => document.getElementById(id));
  const boxes = [...tools.querySelectorAll("[data-tier]")];
  const idOf = (button) => button.dataset.id ? JSON.parse(button.dataset.id) : button.textContent;
  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const typed = (text) => text.replace(/[\r\n]/g, "");  // what a search field makes of it
  const cards = [...list.children].map((node) => ({
    node,
    id: node.dataset.group,
    size: Number(node.dataset.size),
    distance: Number(node.dataset.distance),
    score: Number(node.dataset.score || Infinity),
    tiers: node.dataset.tiers.split(" "),
    text: fold([...node.querySelectorAll(".title, .id")].map((it) => it.textContent)
      .concat([...node.querySelectorAll("[data-id]")].flatMap((it) => [idOf(it), typed(idOf(it))]))
      .join("\n")),
  }));
  const byId = (a, b) => (a.id > b.id) - (a.id < b.id);
  const orders = {
    largest: (a, b) => b.size - a.size,
    closest: (a, b) => a.distance - b.distance,
    farthest: (a, b) => b.distance - a.distance,
    unsure: (a, b) => (a.score > b.score) - (a.score < b.score),
    id: byId,
  };

  const show = () => {
    const words = fold(search.value).split(/\s+/).filter(Boolean);
    const tiers = new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.tier));
    let shown = 0;
    for (const card of cards) {
      const fits = (tiers.size === boxes.length || card.tiers.some((tier) => tiers.has(tier)))
        && words.every((word) => card.text.includes(word));
      card.node.hidden = !fits;
      shown += fits;
    }
    const all = cards.length.toLocaleString("en");
    const noun = cards.length === 1 ? "group" : "groups";
    count.textContent = shown === cards.length
      ? `${all} ${noun} shown` : `${shown.toLocaleString("en")} of ${all} ${noun} shown`;
    nothing.hidden = shown > 0;
  };
  const arrange = () => {
    const order = orders[sort.value];
    list.append(...cards.sort((a, b) => order(a, b) || byId(a, b)).map((card) => card.node));
  };
  const reset = () => {
    search.value = "";
    for (const box of boxes) box.checked = true;
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
  for (const box of boxes) box.addEventListener("change", show);
  sort.addEventListener("change", arrange);
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

  tools.hidden = false;
  arrange();
  show();
})();
