"use strict";

// Tables: a click on a heading sorts by its column, another click the other way; rows without a value stay last.
const valueOf = (cell, isNumeric) => {
  if (!isNumeric) return cell?.textContent.trim() || null;
  const value = Number.parseFloat(cell?.dataset.value); // NaN where there is only a dash
  return Number.isNaN(value) ? null : value;
};

const compare = (one, other) => (typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true }));

const sortBy = (table, heading, column) => {
  const isNumeric = heading.dataset.kind === "number";
  const was = heading.getAttribute("aria-sort");
  const order = was === null ? (isNumeric ? "descending" : "ascending") : was === "ascending" ? "descending" : "ascending";
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column], isNumeric), row]);
  rows.sort(([one], [other]) => (one === null) - (other === null) || (one === null ? 0 : sign * compare(one, other)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading, column));
    heading.append(button);
  });
}

// The gallery: filters hide cards; it is one stop of the Tab key, and the arrow keys move inside it.
const gallery = document.querySelector("#samples");
if (gallery) {
  const filters = gallery.querySelector("form.filters");
  const groups = [...gallery.querySelectorAll("section.group")];
  const samples = [...gallery.querySelectorAll("li.sample")];
  const links = new Map(samples.map((sample) => [sample, sample.querySelector("a")]));
  let shown = samples;
  let current = null;

  const stopAt = (sample) => {
    if (current) links.get(current).tabIndex = -1;
    current = sample;
    if (current) links.get(current).tabIndex = 0;
  };

  const filter = () => {
    const off = [...filters.elements].filter((box) => box.type === "checkbox" && !box.checked);
    for (const sample of samples) sample.hidden = off.some((box) => sample.dataset[box.name] === box.value);
    for (const group of groups) group.hidden = !group.querySelector("li.sample:not([hidden])");
    shown = samples.filter((sample) => !sample.hidden);
    filters.querySelector("output").value = `${shown.length} of ${samples.length} shown`;
    if (!current || current.hidden) stopAt(shown[0] ?? null);
  };

  const columns = () => getComputedStyle(current.parentElement).gridTemplateColumns.split(" ").length;
  const steps = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: columns, ArrowUp: () => -columns(), Home: () => -shown.length, End: () => shown.length };

  gallery.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || !event.target.closest("li.sample")) return;
    event.preventDefault();
    stopAt(event.target.closest("li.sample"));
    const place = shown.indexOf(current) + steps[event.key]();
    stopAt(shown[Math.min(Math.max(place, 0), shown.length - 1)]);
    links.get(current).focus();
  });

  const dialog = document.querySelector("#enlarged");
  const open = (sample) => {
    stopAt(sample);
    const picture = sample.querySelector("img").cloneNode();
    picture.loading = "eager";
    dialog.querySelector("div").replaceChildren(picture);
    dialog.querySelector("p").textContent = picture.alt;
    dialog.querySelector("section").replaceChildren(sample.querySelector("template").content.cloneNode(true));
    history.replaceState(null, "", `#${sample.id}`); // Back from a photograph's page opens the sample again
    dialog.showModal();
  };
  dialog.addEventListener("close", () => history.replaceState(null, "", "#samples"));
  gallery.addEventListener("click", (event) => {
    const sample = event.target.closest("li.sample");
    if (!sample || event.ctrlKey || event.metaKey || event.shiftKey || !event.target.closest("a")) return;
    event.preventDefault();
    open(sample);
  });

  for (const link of links.values()) link.tabIndex = -1;
  filters.hidden = false;
  filters.addEventListener("change", filter);
  filter();
  const named = document.getElementById(location.hash.slice(1));
  if (named?.matches("li.sample")) {
    named.hidden = named.closest("section.group").hidden = false; // a filter may hide it
    addEventListener("load", () => open(named)); // not before the browser has gone to the fragment, which takes the focus away
  }
}
