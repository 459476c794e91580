const data = JSON.parse(document.getElementById("data").textContent), { emotions, sentences, files } = data;
const titles = Object.fromEntries(data.titles), networks = Object.keys(titles); // the mean of the networks first
const rows = data.values.map((values) => Object.fromEntries(values.map((value, k) => [data.columns[k], value])));
const at = (id) => document.getElementById(id);
const count = (number) => `${number.toLocaleString("en")} clip${number === 1 ? "" : "s"}`;
let state = {}; // network, and of the clips shown: meant, said (emotions or ""), right (a number of networks or "")

// An address that changes the state, and one that takes a choice back where it is made already.
const link = (change) =>
  `#${new URLSearchParams(Object.entries({ ...state, ...change }).filter(([, value]) => value))}`;
const everything = { meant: "", said: "", right: "" };
const toggle = (change) => {
  const wanted = { ...everything, ...change };
  const made = Object.keys(wanted).every((key) => wanted[key] === state[key]);
  return `href="${link(made ? everything : wanted)}"${made ? ' aria-current="true"' : ""}`;
};

// The table
const answer = (network) => ({ title: titles[network], data: network, name: network,
  createdCell: (cell, said, row) => cell.classList.add(said === row.emotion ? "right" : "wrong") });
const table = new DataTable("#clips", {
  data: rows, order: [], pageLength: 25, lengthMenu: [10, 25, 100, { label: "all", value: -1 }], autoWidth: false,
  layout: { topStart: "search", topEnd: "pageLength", bottomStart: null, bottomEnd: "paging" },
  search: { boundary: true }, language: { search: "Search", lengthMenu: "_MENU_ clips a page" },
  columns: [
    { title: '<span aria-label="Play"></span>', data: "clip", orderable: false, searchable: false,
      render: (clip) => `<button type="button" aria-label="Play ${clip}">▶</button>` },
    { title: "Acted", data: "emotion" }, ...networks.map(answer),
    { title: `Right of ${networks.length - 1}`, data: "right" }, { title: "Intensity", data: "intensity" },
    { title: "Actor", data: (row) => `${String(row.actor).padStart(2, "0")} ${row.gender}` },
    { title: "Says", data: (row) => sentences[row.statement - 1].split(" ")[0] }, { title: "Take", data: "repetition" },
    { title: "Clip", data: "clip", className: "clip" }],
});
table.search.fixed("state", (text, row) => (!state.meant || row.emotion === state.meant) &&
  (!state.said || row[state.network] === state.said) && (!state.right || row.right === Number(state.right)));
table.on("draw", () => {
  const what = [state.meant && `acted ${state.meant}`, state.said && `heard as ${state.said}`,
    state.right && `${state.right} of ${networks.length - 1} networks right`].filter(Boolean).join(", ");
  at("shown").innerHTML = `<b>${count(table.page.info().recordsDisplay)} shown</b>${what && `: ${what}`}`;
  at("clear").hidden = !table.search() && !state.meant && !state.said && !state.right;
});
at("clear").addEventListener("click", () => table.search("").draw());

// What the address says
function show() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const known = (key, values) => values.find((value) => String(value) === asked.get(key)) ?? "";
  state = { network: known("network", networks) || networks[0], meant: known("meant", emotions),
    said: known("said", emotions), right: String(known("right", [...networks.keys()])) };
  at("network").value = state.network;
  at("clear").href = link(everything);
  const cells = emotions.map((meant) => emotions.map((said) =>
    rows.filter((row) => row.emotion === meant && row[state.network] === said).length));
  const right = cells.reduce((sum, row, k) => sum + row[k], 0);
  at("score").textContent = `right about ${right.toLocaleString("en")} of ${count(rows.length)}, ` +
    `${(100 * right / rows.length).toFixed(1)} %`;
  const focused = [...at("matrix").querySelectorAll("a")].indexOf(document.activeElement);
  const heads = emotions.map((said) => `<th scope="col"><a ${toggle({ said })}>${said}</a>`).join("");
  at("matrix").innerHTML = `<thead><tr><th></th>${heads}</tr></thead><tbody>` + emotions.map((meant, k) => {
    const all = cells[k].reduce((a, b) => a + b);
    return `<tr><th scope="row"><a ${toggle({ meant })}>${meant}</a></th>` + emotions.map((said, j) => {
      const number = cells[k][j], kind = number ? k === j ? "right" : "" : "none";
      return `<td class="${kind}" style="--share: ${number / (all || 1)}">` +
        (number ? `<a ${toggle({ meant, said })} title="${meant} heard as ${said}">${number}</a>` : 0);
    }).join("");
  }).join("");
  at("matrix").querySelectorAll("a")[focused]?.focus({ preventScroll: true });
  const mistakes = emotions.flatMap((meant, k) => emotions.map((said, j) => [cells[k][j], meant, said]))
    .filter(([, meant, said]) => meant !== said).sort((a, b) => b[0] - a[0]).slice(0, 4);
  const agreed = [0, networks.length - 1].map((right) => rows.filter((row) => row.right === right).length);
  at("begin").innerHTML = mistakes.map(([number, meant, said]) =>
    `<li><a ${toggle({ meant, said })}>${meant} heard as ${said}</a>: ${count(number)}</li>`).join("") +
    `<li><a ${toggle({ right: "0" })}>no network is right</a>: ${count(agreed[0])}</li>` +
    `<li><a ${toggle({ right: String(networks.length - 1) })}>every network is right</a>: ${count(agreed[1])}</li>`;
  table.columns().every(function () { this.header().classList.toggle("chosen", this.name() === state.network); });
  table.draw();
}
at("network").innerHTML = networks.map((network) => `<option value="${network}">${titles[network]}</option>`).join("");
at("network").addEventListener("change", (event) => { location.hash = link({ network: event.target.value }); });
addEventListener("hashchange", show);
show();

// The sound
const own = new Map();
at("folder").addEventListener("change", (event) => {
  own.clear();
  for (const file of event.target.files) {
    const name = file.name.match(/^(03-01(?:-\d\d){5})\.(?:wav|flac)$/i);
    if (name) own.set(name[1], file);
  }
  const found = rows.filter((row) => own.has(row.clip)).length;
  at("found").textContent = `${found.toLocaleString("en")} of ${count(rows.length)} found`;
});
const trouble = (words) => { at("playing").textContent = words; at("playing").classList.add("trouble"); };
at("audio").addEventListener("error", () =>
  trouble("The clip is not there, or can't be played: choose your RAVDESS folder."));
table.on("click", "tbody tr", (event) => {
  const line = event.target.closest("tr"), row = table.row(line).data();
  if (!row) return;
  table.$("tr.playing").removeClass("playing");
  line.classList.add("playing");
  const source = own.has(row.clip) ? URL.createObjectURL(own.get(row.clip)) : files[row.clip];
  at("audio").pause();
  if (!source) return trouble("No sound yet: choose your RAVDESS folder, above.");
  if (at("audio").src.startsWith("blob:")) URL.revokeObjectURL(at("audio").src);
  at("playing").classList.remove("trouble");
  const said = row[state.network];
  at("playing").innerHTML =
    `Actor ${row.actor}, ${row.gender}: “${sentences[row.statement - 1]}”, <b>${row.emotion}</b>, ${row.intensity}. ` +
    `${titles[state.network]}: <b class="${said === row.emotion ? "" : "wrong"}">${said}</b>`;
  at("audio").hidden = false;
  at("audio").src = source;
  at("audio").play().catch(() => {}); // the event "error" tells
});
document.querySelector(".pages").open = false;
