// Uploads: how far, how fast, how long yet; and a way to stop. Without it the form is sent as forms are.

const form = document.querySelector("form[data-uploads]");
const part = (name) => form.querySelector(`[data-upload-${name}]`);

// -- a proposal for the format ----------------------------------------------------------------------------------------
async function propose(file) {
  const start = new Uint8Array(await file.slice(0, 32774).arrayBuffer());
  const has = (at, text) => [...text].every((letter, index) => start[at + index] === letter.charCodeAt(0));
  if (has(0, "QFI\u00fb")) return "qcow2";
  if (has(0, "vhdxfile")) return "vhdx";
  if (has(0, "conectix")) return "vhd";
  if (has(0, "KDMV") || has(0, "# Disk DescriptorFile")) return "vmdk";
  if (has(64, "\u007f\u0010\u00da\u00be")) return "vdi";
  if (has(32769, "CD001")) return "iso";
  return "";
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
  return bytes.toFixed(unit && bytes < 100 ? 1 : 0) + " " + units[unit];
}

function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

if (form) {
  let request;
  const [words, problem, bar] = [part("words"), part("problem"), part("state").querySelector("progress")];
  const fill = (text, values) => values.reduce((filled, value) => filled.replace("{}", value), text);

  part("file").addEventListener("change", async () => {
    const file = part("file").files[0];
    if (!file) return;
    if (!part("name").value) part("name").value = file.name.replace(/\.[a-z0-9]{2,5}$/i, "");
    const format = await propose(file);
    if (format) part("format").value = format;
  });

  const busy = (on) => {
    part("cancel").hidden = !on;
    form.querySelector("button.primary").disabled = on;
    if (on) addEventListener("beforeunload", warn);
    else removeEventListener("beforeunload", warn);
  };
  const warn = (event) => event.preventDefault();
  const stop = (text) => {
    busy(false);
    words.textContent = "";
    problem.textContent = text;
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    request = new XMLHttpRequest();
    const begun = performance.now();
    part("state").hidden = false;
    problem.textContent = "";
    bar.value = 0;
    busy(true);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      const rate = loaded / Math.max((performance.now() - begun) / 1000, 0.001);
      bar.value = (loaded / total) * 100;
      words.textContent = loaded >= total
        ? words.dataset.checking
        : fill(words.dataset.words, [size(loaded), size(total), size(rate), span((total - loaded) / rate)]);
    });
    request.addEventListener("load", () => {
      let said = {};
      try { said = JSON.parse(request.responseText); } catch { /* a page: of a session that has ended */ }
      if (request.status < 300 && said.to) {
        busy(false);
        location.assign(said.to);
      } else stop(said.error ?? words.dataset.broken);
    });
    request.addEventListener("error", () => stop(words.dataset.broken));
    request.addEventListener("abort", () => stop(words.dataset.canceled));
    request.open("POST", form.action);
    request.setRequestHeader("X-Upload", "1");
    request.send(new FormData(form));
  });
  part("cancel").addEventListener("click", () => request?.abort());
}

// -- an upload that another page sends -----------------------------------------------------------------------------------
async function look() {
  const card = document.querySelector("[data-upload]");
  if (!card) return;
  const reply = await fetch(card.dataset.upload);
  if (!reply.ok) return location.reload();
  const { percent, received } = await reply.json();
  if (received === null) return location.reload();
  if (percent !== null) {
    card.querySelector("progress").value = percent;
    card.querySelector("[data-percent]").textContent = percent + " %";
  }
  setTimeout(look, 1000);
}
look();
