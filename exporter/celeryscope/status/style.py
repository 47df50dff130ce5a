"""How the pages look: one style sheet, without anything from elsewhere."""

_PALETTE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #fff; --text: #1c2128; --soft: #545d68; --line: #d9dde3;
  --link: #0a58b0; --good: #18703a; --bad: #b42318; --warn: #8a5a00; --mark: #fdf3e1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --card: #161b22; --text: #e7ecf2; --soft: #a3adb9; --line: #2d343d;
    --link: #79b8ff; --good: #56c271; --bad: #ff8a80; --warn: #e9b44c; --mark: #2a2213;
  }
}
"""

STYLE = (
    _PALETTE
    + """
* { box-sizing: border-box }
body {
  margin: 0; padding: 0 1rem 2.5rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  -webkit-text-size-adjust: 100%; font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
header, main, footer { max-width: 68rem; margin: 0 auto }
a { color: var(--link); text-underline-offset: .15em }
a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
h1, h2, p, ul, dl, dd { margin: 0; padding: 0 }
bdi { unicode-bidi: isolate }
code, .name { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: .9em }
.soft { color: var(--soft) }
.good { color: var(--good) }
.bad { color: var(--bad) }
.warn { color: var(--warn) }

header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1.5rem; padding: 1.1rem 0 .9rem }
header p { color: var(--soft); font-size: .875rem }
header strong { color: var(--text); font-size: 1rem; letter-spacing: -.01em }

section { margin-top: 1.75rem }
h2 { font-size: 1.05rem; font-weight: 650; letter-spacing: -.01em; margin-bottom: .6rem }
h2 .soft { font-weight: 400; font-size: .875rem; letter-spacing: 0 }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem }

.state { margin-top: 0; padding: 1.1rem 1.25rem; border-left: .35rem solid var(--soft) }
.state.good { border-left-color: var(--good) }
.state.bad { border-left-color: var(--bad) }
.state h1 { font-size: 1.5rem; line-height: 1.25; font-weight: 680; letter-spacing: -.02em }
.state p { color: var(--text); margin-top: .2rem }
.state p.soft { color: var(--soft); font-size: .9rem }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin-top: .75rem }
.tiles div { padding: .8rem 1rem }
.tiles dt { color: var(--soft); font-size: .8125rem }
.tiles dd { font-size: 1.4rem; line-height: 1.3; font-weight: 620; letter-spacing: -.015em }
.tiles dd.unknown { font-size: 1rem; line-height: 1.82; font-weight: 400; letter-spacing: 0; color: var(--soft) }
.tiles dd + dd { font-size: .8125rem; line-height: 1.4; font-weight: 400; letter-spacing: 0; color: var(--soft) }

.findings { list-style: none; overflow: hidden }
.findings li { padding: .65rem 1.25rem; border-top: 1px solid var(--line); background: var(--mark) }
.findings li:first-child { border-top: 0 }
.findings a { white-space: nowrap }
.empty { padding: 1rem 1.25rem; color: var(--soft) }

table { width: 100%; border-collapse: collapse; font-size: .9375rem }
th, td { padding: .55rem .75rem; text-align: right; font-weight: 400; vertical-align: baseline }
th:first-child, td:first-child { text-align: left; padding-left: 1.25rem }
th:last-child, td:last-child { padding-right: 1.25rem }
th.text, td.text { text-align: left }
thead th { color: var(--soft); font-size: .8125rem; white-space: nowrap }
tbody tr { border-top: 1px solid var(--line) }
td { white-space: nowrap }
td.wide { white-space: normal; min-width: 15rem }
.more { padding: .6rem 1.25rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem }
.note { margin-top: .5rem; color: var(--soft); font-size: .8125rem }

footer {
  margin-top: 2.25rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem;
  display: flex; flex-wrap: wrap; gap: .4rem 1.25rem
}

@media (max-width: 44rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  table, tbody { display: block }
  tbody tr { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; padding: .75rem 1.25rem }
  tbody th, tbody td, th:first-child, td:first-child, td:last-child {
    padding: 0; text-align: left; white-space: normal; min-width: 0
  }
  tbody th { flex: 0 0 100% }
  td::before { content: attr(data-label) " "; color: var(--soft); font-size: .8125rem }
  .state h1 { font-size: 1.35rem }
}
"""
)

RUNBOOK_STYLE = (
    _PALETTE
    + """
body {
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  max-width: 46rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere;
  background: var(--page); color: var(--text)
}
html { background: var(--page) }
h1, h2, h3 { letter-spacing: -.015em; line-height: 1.25 }
a { color: var(--link); text-underline-offset: .15em }
pre, code { font: .875rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
pre {
  padding: .75rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow-x: auto
}
hr { border: 0; border-top: 1px solid var(--line); margin-top: 2rem }
"""
)
