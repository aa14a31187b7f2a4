// The console of a server: its screen by noVNC, or its serial line by xterm.js, over a WebSocket that a one-time token opens.
const box = document.getElementById("console");
const place = document.getElementById("console-place");
const status = document.getElementById("console-status");
const said = JSON.parse(document.getElementById("console-words").textContent);
const serial = box.dataset.kind === "serial";
const encoder = new TextEncoder();

// xterm.js makes style elements, and writes colours into style attributes. With the page's nonce, and through the object
// model, the Content-Security-Policy lets both be without letting anything else be.
const { nonce } = document.querySelector("script[nonce]");
const make = document.createElement.bind(document);
document.createElement = (name, options) => {
  const node = make(name, options);
  if (String(name).toLowerCase() === "style") node.nonce = nonce;
  return node;
};
const write = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style" && this.style) this.style.cssText = value;
  else write.call(this, name, value);
};

// -- tokens -------------------------------------------------------------------------------------------------------------
// A page with a session asks for as many as it needs; a page without one has the token of its address.
async function address() {
  if (!box.dataset.token) {
    const path = new URLSearchParams(location.search).get("path") ?? "";
    if (!/^\/?(console\/ws|websockify)\?token=[\w-]+$/.test(path)) throw new Error(said.noToken);
    return `wss://${location.host}/${path.replace(/^\//, "")}`;
  }
  const reply = await fetch(box.dataset.token, { method: "POST", headers: { "X-CSRF-Token": box.dataset.csrf } });
  if (reply.redirected || reply.status === 401) throw new Error(said.signedOut);
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.message);
  return `wss://${location.host}${answer.path}`;
}

// -- connections ----------------------------------------------------------------------------------------------------------
let console_; // { send, keys, close, focus, release, scale, left }
let attempts = 0;
let waiting;

function say(text, mood) {
  status.textContent = text;
  status.className = `status ${mood}`;
}

async function connect() {
  clearTimeout(waiting);
  console_?.close();
  console_ = undefined;
  say(said.connecting, "busy");
  try {
    const where = await address();
    console_ = serial ? await line(where) : await screen(where);
  } catch (error) {
    say(error.message, "bad");
  }
}

function connected() {
  attempts = 0;
  say(said.connected, "good");
  console_?.focus();
}

// A connection that broke is made again by itself, a few times: a token that the page cannot renew opens nothing twice.
function over(was) {
  if (was.left) return;
  say(said.over, "idle");
  if (!box.dataset.token || attempts >= 5) return;
  waiting = setTimeout(connect, 1000 * 2 ** attempts++);
}

async function screen(where) {
  const { default: RFB } = await import("./vendor/novnc/core/rfb.js");
  place.replaceChildren();
  const rfb = new RFB(place, where, { wsProtocols: ["binary"] });
  const mine = {
    send: (text) => type(rfb, text),
    keys: () => rfb.sendCtrlAltDel(),
    close() {
      mine.left = true;
      rfb.disconnect();
    },
    focus: () => rfb.focus(),
    release: () => rfb.blur(),
    scale(yes) {
      rfb.scaleViewport = yes;
      rfb.clipViewport = !yes;
      rfb.dragViewport = false;
    },
  };
  rfb.background = "transparent";
  mine.scale(scale.checked);
  rfb.addEventListener("connect", connected);
  rfb.addEventListener("disconnect", () => over(mine));
  rfb.addEventListener("clipboard", (event) => (text.value = event.detail.text));
  return mine;
}

async function line(where) {
  const [{ Terminal }, { FitAddon }] = await Promise.all([
    import("./vendor/xterm/xterm.mjs"),
    import("./vendor/xterm/addon-fit.mjs"),
  ]);
  place.replaceChildren();
  const terminal = new Terminal({ scrollback: 10000, screenReaderMode: true, cursorBlink: true });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  fit.fit();
  const resized = new ResizeObserver(() => fit.fit());
  resized.observe(place);
  const socket = new WebSocket(where, ["binary"]);
  socket.binaryType = "arraybuffer";
  const send = (text) => socket.readyState === WebSocket.OPEN && socket.send(encoder.encode(text));
  terminal.onData(send);
  terminal.onBinary((text) => socket.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  const mine = {
    send: (text) => send(text.replaceAll("\n", "\r")),
    close() {
      mine.left = true;
      resized.disconnect();
      socket.close();
    },
    focus: () => terminal.focus(),
    release: () => terminal.blur(),
    scale() {},
  };
  socket.addEventListener("open", connected);
  socket.addEventListener("message", (event) => terminal.write(new Uint8Array(event.data)));
  socket.addEventListener("close", () => over(mine));
  return mine;
}

// -- text as if typed: a guest's screen has no clipboard of ours ---------------------------------------------------------------
const PLAIN = "`1234567890-=[]\\;',./ ";
const SHIFTED = "~!@#$%^&*()_+{}|:\"<>?";
const CODES = [
  "Backquote", "Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7", "Digit8", "Digit9", "Digit0", "Minus",
  "Equal", "BracketLeft", "BracketRight", "Backslash", "Semicolon", "Quote", "Comma", "Period", "Slash", "Space",
];

// Symbol, place on an American keyboard, and whether Shift is held.
function key(letter) {
  if (letter === "\n") return [0xff0d, "Enter", false];
  if (letter === "\t") return [0xff09, "Tab", false];
  const point = letter.codePointAt(0);
  const symbol = point < 0x100 ? point : 0x1000000 + point;
  if (/[a-z]/i.test(letter)) return [symbol, `Key${letter.toUpperCase()}`, letter !== letter.toLowerCase()];
  if (PLAIN.includes(letter)) return [symbol, CODES[PLAIN.indexOf(letter)], false];
  if (SHIFTED.includes(letter)) return [symbol, CODES[SHIFTED.indexOf(letter)], true];
  return [symbol, null, false];
}

async function type(rfb, words) {
  for (const letter of words.replaceAll("\r\n", "\n")) {
    const [symbol, code, shift] = key(letter);
    if (shift) rfb.sendKey(0xffe1, "ShiftLeft", true);
    rfb.sendKey(symbol, code, true);
    rfb.sendKey(symbol, code, false);
    if (shift) rfb.sendKey(0xffe1, "ShiftLeft", false);
    // Keyboards have a short memory.
    await new Promise((done) => setTimeout(done, 15));
  }
}

// -- the bar ------------------------------------------------------------------------------------------------------------------
const scale = document.getElementById("console-scale");
const text = document.getElementById("console-text");
const bar = document.getElementById("console-bar");
const does = {
  reconnect() {
    attempts = 0;
    return connect();
  },
  keys: () => console_?.keys?.(),
  full: () => (document.fullscreenElement ? document.exitFullscreen() : box.requestFullscreen()),
  async paste() {
    const words = text.value;
    document.getElementById("console-paste").hidePopover();
    console_?.focus();
    await console_?.send(words);
  },
};
bar.addEventListener("click", (event) => does[event.target.closest("[data-do]")?.dataset.do]?.());
scale?.addEventListener("change", () => console_?.scale(scale.checked));
document.getElementById("console-paste").addEventListener("toggle", async (event) => {
  if (event.newState !== "open") return;
  text.focus();
  try {
    text.value = await navigator.clipboard.readText();
  } catch {
    // The browser, or its owner, would rather not.
  }
});
// The console takes every key, so there must be one that leads out of it.
addEventListener("keydown", (event) => {
  if (!(event.ctrlKey && event.altKey && event.key === "End")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  console_?.release();
  bar.querySelector("button").focus();
}, true);
addEventListener("pagehide", () => console_?.close());
connect();
