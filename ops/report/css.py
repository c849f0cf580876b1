"""The look of our HTML pages: light and dark, by the reader's own setting."""

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #ffffff; --ink: #16202c; --soft: #566373; --line: #dde2e8;
  --good: #146c43; --good-ground: #dcf3e6; --bad: #a3262a; --bad-ground: #fde3e3;
  --busy: #7a4b00; --busy-ground: #fdefd0; --plain-ground: #e9edf2; --accent: #3656c9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10151c; --card: #19212b; --ink: #e7ecf2; --soft: #a3b0bf; --line: #2d3844;
    --good: #7ddba8; --good-ground: #12382a; --bad: #ff9d9d; --bad-ground: #46191c;
    --busy: #f5c66b; --busy-ground: #40300f; --plain-ground: #273240; --accent: #8ea8ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.125rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: 0; }
.soft, .note, figcaption { color: var(--soft); font-size: .875rem; }
header { margin-bottom: 1.5rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.25rem; margin-top: 1.25rem;
}
dl.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 0;
}
.tile {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .875rem 1rem;
}
.tile dt { color: var(--soft); font-size: .8125rem; }
.tile dd { margin: 0; }
.figure { font-size: 1.5rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figure.good { color: var(--good); } .figure.bad { color: var(--bad); } .figure.busy { color: var(--busy); }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
th, td {
  text-align: left; vertical-align: top; padding: .5rem .75rem .5rem 0; border-top: 1px solid var(--line);
}
thead th { border-top: 0; color: var(--soft); font-size: .8125rem; font-weight: 600; white-space: nowrap; }
tbody th { min-width: 11rem; font-weight: 600; overflow-wrap: anywhere; }
@media (max-width: 40rem) { tbody td { min-width: 7.5rem; } }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { border-top: 1px solid var(--line); padding-top: .75rem; }
summary { color: var(--soft); cursor: pointer; font-size: .9375rem; }
summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
a { color: var(--accent); }
.path {
  color: var(--soft); font: .8125rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere;
}
.chip {
  display: inline-block; padding: .0625rem .5rem; border-radius: 1rem; font-size: .8125rem; font-weight: 600;
  background: var(--plain-ground); white-space: nowrap;
}
.chip.good { background: var(--good-ground); color: var(--good); }
.chip.bad { background: var(--bad-ground); color: var(--bad); }
.chip.busy { background: var(--busy-ground); color: var(--busy); }
.barcell { display: block; min-width: 6rem; }
.barlabel { font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar {
  display: block; height: .375rem; margin-top: .25rem; border-radius: 1rem; overflow: hidden;
  background: var(--plain-ground);
}
.fill { display: block; height: 100%; background: var(--accent); }
.jobs {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; align-items: start;
  list-style: none; margin: 0; padding: 0;
}
.job {
  display: flex; flex-direction: column; overflow: hidden;
  border: 1px solid var(--line); border-radius: .625rem;
}
.job .words { padding: .75rem .875rem; display: grid; gap: .375rem; }
.job .top { display: flex; justify-content: space-between; gap: .5rem; align-items: baseline; }
.job figure { margin: 0; background: var(--ground); border-bottom: 1px solid var(--line); }
.job img, .job video { display: block; width: 100%; max-height: 20rem; object-fit: contain; }
.job audio { display: block; width: calc(100% - 1.5rem); margin: .75rem; }
.job figcaption { padding: .25rem .875rem .5rem; overflow-wrap: anywhere; }
.error { color: var(--bad); font-size: .875rem; overflow-wrap: anywhere; }
.trouble { border-color: var(--bad); } .trouble li { overflow-wrap: anywhere; }
.trouble ul { margin: 0; padding-left: 1.25rem; }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
"""
