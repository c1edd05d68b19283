// Elements made of text nodes alone: what strangers wrote never becomes markup.

/** Make an element: children are elements or texts; properties starting with "on" are listeners. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

/** A text of a stranger, kept from reversing what stands beside it. */
export function text(value) {
  return el("bdi", {}, String(value).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, "\ufffd"));
}

export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

/** Say something to screen readers. */
export function say(message) {
  $("said").textContent = message;
}

/** Show a message that stays until it is closed. */
export function warn(message, ...actions) {
  const close = el("button", { type: "button", onclick: () => { $("alert").hidden = true; } }, "Close");
  fill($("alert"), el("span", {}, message), ...actions, close);
  $("alert").hidden = false;
}

export function count(n, noun, nouns = `${noun}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? noun : nouns}`;
}
