/* The page of a report that can write. It knows nothing by itself: each act goes to the server with the number of acts that were seen, and
   the page then shows the sorting that came back, so that the screen is what edits.jsonl says. Before this script stand the constants
   ORIGINALS (whether the pictures can be had as they lie in their source) and STYLE (review.css). */
{
  const { kinds, by, pictures, selection } = coterie;
  const make = (tag, more = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), more);
    element.append(...children);
    return element;
  };
  const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  const GONE = "The server of this page is gone; nothing is written any more. Start coterie review again: all that is counted here is kept.";
  let state = null;
  let confirmed = new Set(), nothing = new Set(), sizes = new Map();
  document.head.append(make("style", { textContent: STYLE }));
  const first = new Map([...kinds].map(([number, kind]) => [number, { ...kind }])); // as the method has them

  // The bar: how many acts there are, and the way back and forth.
  const words = make("span", { role: "status" }), count = make("b");
  const button = (text, key, act) => {
    const made = make("button", { type: "button", onclick: act }, text);
    if (key) made.append(" ", make("kbd", {}, key));
    return made;
  };
  const undo = button("Undo", "z", () => act({ act: "undo" })), redo = button("Redo", "y", () => act({ act: "redo" }));
  const bar = make("div", { id: "review" }, count, words, button("Ask me", "q", () => ask()), undo, redo);
  bar.setAttribute("role", "region");
  bar.setAttribute("aria-label", "Corrections");
  document.body.prepend(bar);
  const tell = (text, wrong = false) => {
    words.textContent = text;
    words.title = text;
    bar.classList.toggle("wrong", wrong);
  };

  // The sorting, as the server has it.
  const take = (now) => {
    const changed = pictures.filter(({ id, kind }) => now.labels[id] !== kind).map(({ id }) => [id, now.labels[id]]);
    state = now;
    confirmed = new Set(now.confirmed);
    nothing = new Set(now.not_kinds);
    sizes = new Map(now.clusters.map((number) => [number, 0]));
    for (const label of now.labels) sizes.set(label, (sizes.get(label) ?? 0) + 1);
    coterie.refresh(changed); // now all kinds are there
    for (const [number, kind] of kinds) kind.told = nothing.has(number) ? "not a kind" : (first.get(number)?.told ?? "");
    coterie.refresh([], now.clusters.map((number) => [number, now.names[number] ?? first.get(number)?.name ?? ""]));
    for (const card of document.querySelectorAll(".card")) card.toggleAttribute("data-nothing", nothing.has(+card.dataset.kind));
    count.textContent = plural(now.n_acts, "act");
    for (const [way, what] of [[undo, now.undo], [redo, now.redo]]) {
      way.disabled = !what;
      way.title = what ?? "";
    }
    if (now.remarks.length) tell(now.remarks.join(" "), true);
  };

  const answered = async (ask) => {
    let answer, told;
    try {
      answer = await ask();
      told = await answer.json();
    } catch {
      tell(GONE, true);
      return null;
    }
    const now = answer.ok ? told : told.state;
    if (now) take(now);
    if (!answer.ok) tell(told.error, true);
    return answer.ok ? now : null;
  };
  // One after the other, so that each knows how many came before it.
  let last = Promise.resolve();
  const after = (next) => (last = last.then(next, next));
  const act = (what) => after(() => {
    if (!state) return null;
    const before = state, body = JSON.stringify({ seen: state.n_acts, act: what });
    return answered(() => fetch("act", { method: "POST", headers: { "Content-Type": "application/json" }, body })).then((now) => {
      if (!now) return null;
      tell(what.act === "undo" ? `taken back: ${before.undo}` : now.undo);
      return now;
    });
  });
  const look = () => after(() => answered(() => fetch("state")));
  addEventListener("focus", () => { if (!document.querySelector("dialog[open]")) look(); });

  // Questions.
  const dialog = make("dialog", { id: "ask" });
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  const asked = (title, fill) => new Promise((resolve) => {
    let answer = null;
    const done = (value) => { answer = value; dialog.close(); };
    const heading = make("h2", { id: "ask-title" }, title);
    dialog.setAttribute("aria-labelledby", "ask-title");
    dialog.replaceChildren(heading, ...fill(done));
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    dialog.querySelector("input")?.select();
  });
  const write = (title, value, more = {}) => asked(title, (done) => {
    const input = make("input", { value, maxLength: 100, ...more });
    input.setAttribute("aria-labelledby", "ask-title");
    const form = make("form", { onsubmit: (event) => { event.preventDefault(); done(input.value.trim()); } }, input,
      make("p", { className: "row", style: "margin-top:12px" }, button("Cancel", "", () => dialog.close()),
        make("button", { className: "first" }, "Done")));
    return [form];
  });
  const choose = (title, numbers) => asked(title, (done) => { // one of the kinds: type to find it
    const input = make("input", { type: "search", placeholder: "number or name" }), list = make("ul");
    input.setAttribute("aria-labelledby", "ask-title");
    const called = (number) => (number === state.following ? "A new kind" : coterie.called(number));
    const fits = (number) => called(number).toLowerCase().includes(input.value.trim().toLowerCase());
    const draw = () => list.replaceChildren(...numbers.filter(fits).map((number) => {
      const size = number === state.following ? "" : (sizes.get(number) ?? 0).toLocaleString("en");
      return make("li", {}, make("button", { type: "button", onclick: () => done(number) }, coterie.dot(number), called(number), make("small", {}, size)));
    }));
    input.oninput = draw;
    draw();
    const form = make("form", { onsubmit: (event) => { event.preventDefault(); list.querySelector("button")?.click(); } }, input);
    return [form, list, make("p", { className: "row" }, button("Cancel", "", () => dialog.close()))];
  });

  const viewer = document.querySelector("#viewer");
  let here = null; // the picture in the large view
  let questions = []; // {id, likeliest}: pictures whose kind would tell most of the others, asked one after the other in the large view

  // What can be done to the open kind, and to the selected pictures.
  const open = () => (coterie.kind !== null && coterie.kind >= 0 ? coterie.kind : null);
  const chosen = () => [...selection].sort((a, b) => a - b);
  const kindsChosen = () => [...new Set(chosen().map((id) => by.get(id).kind))].filter((kind) => kind >= 0);
  const others = (...without) => state.clusters.filter((number) => !without.includes(number));
  const sent = async (what, then = () => {}) => { // whether it was done
    const done = Boolean(await act(what));
    if (done) then();
    return done;
  };
  const clear = () => coterie.select([]);
  const rename = async () => {
    const cluster = open(), name = cluster === null ? null : await write(`What is cluster ${cluster}?`, state.names[cluster] ?? "");
    if (name !== null) sent({ act: "rename", cluster, name });
  };
  const merge = async () => {
    const cluster = open();
    if (cluster === null) return;
    const other = await choose(`${coterie.called(cluster)} is the same as`, others(cluster));
    if (other !== null) sent({ act: "merge", clusters: [cluster, other] }, () => coterie.show(state.clusters.includes(cluster) ? cluster : other));
  };
  const mergeChosen = () => {
    const clusters = kindsChosen();
    if (clusters.length > 1) sent({ act: "merge", clusters }, () => { clear(); coterie.show(clusters.find((one) => state.clusters.includes(one))); });
  };
  const split = async () => {
    const cluster = open();
    const number = cluster === null ? null : await write(`${coterie.called(cluster)}: into how many?`, "2", { type: "number", min: 2, max: 20 });
    if (number !== null) sent({ act: "split", cluster, number: Math.trunc(+number) });
  };
  const noKind = () => { if (open() !== null) sent({ act: nothing.has(open()) ? "confirm" : "not_a_kind", cluster: open() }); };
  const confirm = () => {
    if (selection.size) sent({ act: "confirm", ids: chosen() }, clear);
    else if (open() !== null) sent({ act: "confirm", cluster: open() });
  };
  const move = async (ids = chosen()) => {
    if (!ids.length) return false;
    const cluster = await choose(`${plural(ids.length, "picture")} into`, [state.following, ...others()]);
    return cluster !== null && sent({ act: "move", ids, cluster }, clear);
  };
  const unsure = (ids = chosen()) => ids.length > 0 && sent({ act: "move", ids, cluster: -1 }, clear);

  const ask = async () => {
    tell("Looking for the pictures whose kind would tell most of the others…");
    const answer = await fetch("questions").catch(() => null), told = await answer?.json();
    if (!answer?.ok) { tell(told?.error ?? GONE, true); return; }
    questions = told.questions;
    tell(questions.length ? `${plural(questions.length, "question")}; coterie refine learns from the answers` : "there is nothing to ask");
    if (questions.length) coterie.open(questions[0].id);
  };
  const question = () => questions.find(({ id }) => id === here);
  const next = () => {
    questions = questions.filter(({ id }) => id !== here);
    if (questions.length) coterie.open(questions[0].id); else coterie.close();
  };
  // In the large view: what is done to its picture, and then the next question, or the same picture as it is now.
  const large = {
    v: () => move([here]),
    u: () => unsure([here]),
    c: () => sent({ act: "confirm", ids: [here] }),
    i: () => question() && sent({ act: "move", ids: [here], cluster: question().likeliest }),
  };
  const inLarge = async (key) => {
    const done = await large[key]();
    if (!viewer.open) return;
    if (done && question()) next(); else coterie.open(here);
  };

  const kindActions = document.querySelector("#kind-actions"), actions = document.querySelector("#actions");
  const not = button("Not a kind", "k", noKind);
  kindActions.append(
    button("Rename", "r", rename), button("Merge with…", "j", merge), button("Split", "s", split), not, button("Confirm", "c", confirm));
  const joined = button("Merge their kinds", "j", mergeChosen);
  actions.append(button("Move to…", "v", () => move()), button("Unsure", "u", () => unsure()), button("Confirm", "c", confirm), joined);
  const shown = () => {
    kindActions.hidden = open() === null;
    not.firstChild.textContent = nothing.has(open()) ? "Is a kind" : "Not a kind";
    joined.hidden = kindsChosen().length < 2;
  };
  coterie.onShow.push(shown);
  coterie.onSelect.push(shown);
  coterie.onOpen.push((picture, place) => {
    if (!state) return;
    here = picture.id;
    const posed = question(), told = posed
      ? `What is this? The answer would tell much of others. ${plural(questions.length, "question")} left.`
      : confirmed.has(here) ? "Confirmed here by a person." : "";
    if (told) place.append(make("p", {}, told));
    if (posed && posed.likeliest !== picture.kind) place.append(button(`It is ${coterie.called(posed.likeliest)}`, "i", () => inLarge("i")));
    for (const [text, key] of [["Move to…", "v"], ["Unsure", "u"], ["Confirm", "c"]]) place.append(button(text, key, () => inLarge(key)));
    if (posed) place.append(button("Skip", "q", next));
  });

  // A mark on what is confirmed.
  coterie.onDress.push((figure, { id }) => figure.toggleAttribute("data-confirmed", confirmed.has(id)));

  const KEYS = {
    r: rename, s: split, k: noKind, v: () => move(), u: () => unsure(), c: confirm, q: ask, z: () => undo.click(), y: () => redo.click(),
    j: () => (selection.size ? mergeChosen() : merge()),
  };
  coterie.onKey.push((event) => {
    if (dialog.open || document.querySelector("#help").open) return false;
    const { key } = event;
    if (viewer.open) {
      if (large[key]) inLarge(key);
      else if (key === "q" && question()) next();
      else return false;
    } else if (KEYS[key]) KEYS[key]();
    else return false;
    return true;
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.target.closest("input, textarea, select")) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    (key === "y" || event.shiftKey ? redo : undo).click();
  });
  const keys = document.querySelector("#help dl");
  const told = [["r", "name the open kind"], ["j", "merge it with another, or the kinds of the selected pictures"], ["s", "split it"], ["k", "not a kind"],
    ["c", "confirm the selected pictures, or the open kind"], ["v", "move them into a kind, or a new one"], ["u", "unsure"],
    ["q", "be asked: the 20 pictures whose kind would tell most"], ["z y", "undo, redo"]];
  for (const [key, text] of told) keys.append(make("dt", {}, ...key.split(" ").flatMap((one) => [make("kbd", {}, one), " "])), make("dd", {}, text));

  for (const picture of pictures) if (ORIGINALS) picture.original = `original/${picture.id}`;
  shown();
  look();
}
