/* A key for everything that the mouse can do. */
{
  const { selection } = coterie;
  const grid = document.querySelector("#grid"), form = document.querySelector("#filter");
  const steps = () => {
    const { focus, columns } = coterie.place(), page = columns * Math.max(1, Math.floor(innerHeight / 160));
    return {
      ArrowLeft: focus - 1, ArrowRight: focus + 1, ArrowUp: focus - columns, ArrowDown: focus + columns,
      PageUp: focus - page, PageDown: focus + page, Home: 0, End: coterie.shown.length - 1,
    };
  };
  grid.addEventListener("keydown", (event) => {
    const id = coterie.shown[coterie.place().focus], to = steps()[event.key];
    if (to !== undefined) coterie.focus(to, event.shiftKey);
    else if (event.key === "Enter" && id !== undefined) coterie.open(id);
    else if ((event.key === "x" || event.key === " ") && id !== undefined) coterie.select([id], "toggle");
    else return;
    event.preventDefault();
  });
  const KEYS = {
    "/": () => { form.scrollIntoView({ block: "nearest" }); form.elements.text.focus(); },
    "?": () => coterie.help(),
    a: () => coterie.select(coterie.shown, "add"),
    n: () => coterie.step(1),
    p: () => coterie.step(-1),
    g: () => coterie.focus(coterie.place().focus),
    m: () => document.querySelector("#cloud").focus(),
    Escape: () => { if (selection.size) coterie.select([]); },
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]), textarea, select, [contenteditable]");
    if (typing && event.key === "Escape") typing.blur();
    if (typing || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (coterie.onKey.some((call) => call(event))) { event.preventDefault(); return; }
    if (document.querySelector("dialog[open]") || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}
