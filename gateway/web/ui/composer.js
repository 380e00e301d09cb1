// The composer: drafts that survive a reload, files, Ctrl+Enter, a time in the writer's own zone, undo that counts down.

const MAX_BYTES = 25 * 1024 * 1024;
const DRAFT_FIELDS = ["text", "to", "cc"];

export function watchComposers() {
  for (const form of document.querySelectorAll("form[data-composer]")) {
    if (form.dataset.watched === form.dataset.key) continue;
    const isNew = form.dataset.watched === undefined;
    form.dataset.watched = form.dataset.key;
    if (isNew) watch(form);
    else reset(form);
    restore(form);
    tellZone(form);
  }
  countDown();
}

function watch(form) {
  form.files = new Map();
  form.addEventListener("input", () => save(form));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit(form.querySelector("[data-send]"));
    }
  });
  form.querySelector("input[type=file]")?.addEventListener("change", (event) => take(form, event.target));
  form.addEventListener("paste", (event) => event.clipboardData?.files.length && take(form, event.clipboardData));
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    take(form, event.dataTransfer);
  });
}

function reset(form) {
  form.files?.clear();
  form.querySelector("[data-files]")?.replaceChildren();
}

const draftName = (form) => `draft:${form.dataset.composer}`;

function save(form) {
  const draft = {};
  for (const name of DRAFT_FIELDS) draft[name] = form.elements[name]?.value ?? "";
  try {
    sessionStorage.setItem(draftName(form), JSON.stringify({ key: form.elements.key.value, ...draft }));
  } catch {
    // a full or forbidden storage costs the draft, not the answer
  }
}

// A draft keeps the key of the form it was written in: if that form was sent and its answer was lost on the way, sending
// the draft again under the same key sends nothing twice.
function restore(form) {
  let draft = null;
  try {
    draft = JSON.parse(sessionStorage.getItem(draftName(form)));
  } catch {
    return;
  }
  if (!draft) return;
  if (form.dataset.sent === draft.key) {
    sessionStorage.removeItem(draftName(form));
    form.elements.text.value = form.elements.text.defaultValue;
    return;
  }
  if (!form.elements.text.value && draft.text) form.elements.key.value = draft.key;
  for (const name of DRAFT_FIELDS) {
    const field = form.elements[name];
    if (field && draft[name] && (name === "text" ? !field.value : true)) field.value = draft[name];
  }
}

function tellZone(form) {
  const offset = form.elements.utc_offset;
  if (offset) offset.value = String(-new Date().getTimezoneOffset());
  for (const label of form.querySelectorAll("[data-zone]")) label.textContent = "your time";
}

async function take(form, source) {
  const picked = [...source.files];
  if (source instanceof HTMLInputElement) source.value = "";
  const list = form.querySelector("[data-files]");
  for (const file of picked) {
    const total = [...form.files.values()].reduce((sum, item) => sum + item.size, 0) + file.size;
    if (total > MAX_BYTES) {
      complain(form, `${file.name} was left out: 25 MB together is the most that mail servers take.`);
      continue;
    }
    const name = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    form.files.set(name, file);
    list.append(await chip(form, name, file));
  }
}

async function chip(form, name, file) {
  const item = document.createElement("li");
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = "files";
  field.value = JSON.stringify({ name: file.name, type: file.type, content: await base64(file) });
  const label = document.createElement("bdi");
  label.textContent = file.name;
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "plain";
  remove.textContent = "×";
  remove.setAttribute("aria-label", `Remove ${file.name}`);
  remove.addEventListener("click", () => {
    form.files.delete(name);
    item.remove();
  });
  item.append(label, remove, field);
  return item;
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function complain(form, words) {
  const place = form.querySelector("[data-complaint]");
  if (!place) return;
  place.textContent = words;
  place.hidden = false;
}

function countDown() {
  for (const bar of document.querySelectorAll("[data-until]")) {
    if (bar.dataset.counting) continue;
    bar.dataset.counting = "1";
    const left = bar.querySelector("[data-left]");
    const tick = () => {
      const seconds = Math.ceil((new Date(bar.dataset.until).getTime() - Date.now()) / 1000);
      if (!bar.isConnected) return;
      if (seconds <= 0) bar.hidden = true;
      else {
        if (left) left.textContent = `${seconds} s`;
        setTimeout(tick, 250);
      }
    };
    tick();
  }
}
