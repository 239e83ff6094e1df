"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    if (text === "–" || text === "") return null;
    const number = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?(?=%?(\s|$))/i.exec(text.replaceAll("−", "-"));
    return number ? Number(number[0]) : text;
  };
  const compare = (a, b) => { // numbers before words
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => [key(row, column), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what is missing is last
        return ascending ? compare(a, b) : compare(b, a);
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
// What tells rows apart stays in sight while numbers are scrolled: as many names as fit in 60 %.
const keep = () => {
  for (const table of document.querySelectorAll("table.named")) {
    const rows = [...table.tBodies[0].rows];
    const room = 0.6 * table.parentElement.clientWidth;
    let left = 0;
    [...table.tHead.rows[0].querySelectorAll(".name")].forEach((heading, column) => {
      const said = new Set(rows.map((row) => row.cells[column].textContent));
      said.delete("");
      const kept = (said.size > 1 || rows.length < 2) && left + heading.offsetWidth <= room;
      for (const cell of [heading, ...rows.map((row) => row.cells[column])]) {
        cell.classList.toggle("kept", kept);
        cell.style.left = kept ? `${left}px` : "";
      }
      if (kept) left += heading.offsetWidth;
    });
  }
};
keep();
addEventListener("resize", keep);
const opened = []; // on paper, as long as it is printed
addEventListener("beforeprint", () => {
  opened.push(...document.querySelectorAll("section > details:not([open])"));
  for (const details of opened) details.open = true;
  document.querySelectorAll(".wide > table").forEach(part);
});
addEventListener("afterprint", () => {
  for (const details of opened.splice(0)) details.open = false;
  for (const made of document.querySelectorAll(".part")) made.remove();
  for (const whole of document.querySelectorAll(".parted")) whole.classList.remove("parted");
});
// Paper does not scroll: a table that is wider goes on below, each part with the names of its rows.
const PAPER = { portrait: 690, landscape: 940 }; // pixels between the margins of Letter, or of A4
const SMALLER = 0.54; // a column on paper, at the most, to the same on the screen: see page.css
const NAME = 70; // of a name on paper, whose words go below each other
const part = (table) => {
  const heads = [...table.tHead.rows[0].cells];
  const turned = table.closest("#table") && CSS.supports("page", "wide");
  const names = [], parts = [];
  let room = turned ? PAPER.landscape : PAPER.portrait;
  heads.forEach((head, column) => {
    if (!head.matches(".name")) return;
    names.push(column);
    room -= Math.min(SMALLER * head.offsetWidth, NAME);
  });
  let left = 0;
  heads.forEach((head, column) => {
    if (names.includes(column)) return;
    left -= SMALLER * head.offsetWidth;
    if (left < 0) {
      parts.push([...names]);
      left = room - SMALLER * head.offsetWidth;
    }
    parts.at(-1).push(column);
  });
  if (parts.length < 2) return;
  const made = parts.map((columns) => {
    const copy = table.cloneNode(false);
    for (const of of [table.tHead, table.tBodies[0]]) {
      const rows = [...of.rows].map((row) => {
        const own = row.cloneNode(false);
        own.append(...columns.map((column) => row.cells[column].cloneNode(true)));
        return own;
      });
      copy.appendChild(of.cloneNode(false)).append(...rows);
    }
    const frame = document.createElement("div");
    frame.className = "part";
    frame.append(copy);
    return frame;
  });
  table.parentElement.after(...made);
  table.parentElement.classList.add("parted");
};
const filter = document.getElementById("filter");
if (filter) {
  const answers = [...document.querySelectorAll(".answer")];
  const show = () => {
    const { flip, cell, text } = filter.elements;
    const wanted = text.value.toLowerCase();
    let shown = 0;
    for (const answer of answers) {
      const flips = answer.dataset.flip;
      const kept =
        (flip.value === "" || (flip.value === "any" ? flips !== "" : flips === flip.value)) &&
        (cell.value === "" || answer.dataset.cell === cell.value) &&
        answer.textContent.toLowerCase().includes(wanted);
      answer.hidden = !kept;
      shown += kept;
    }
    filter.querySelector("output").textContent = `${shown} shown`;
  };
  for (const kind of ["input", "change"]) filter.addEventListener(kind, show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  show();
}
