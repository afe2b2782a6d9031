"""``report.html``: one self-contained page that a physician can read, on a screen, a phone or paper."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchgenaug.trust.report.drawings import draw_image, draw_map, draw_pair, draw_profiles, draw_sheet
from torchgenaug.trust.report.picture_data import Pictures
from torchgenaug.whole_files import write_whole

Report = Mapping[str, Any]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c20; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.verdict { border-left: .6rem solid; padding: .6rem 1rem; background: #f4f4f6; }
.use { border-color: #009e73; } .caution { border-color: #e69f00; }
.cannot { border-color: #777; } .not { border-color: #d55e00; }
.verdict strong { font-size: 1.4rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .7rem; }
figure { margin: 0; break-inside: avoid; } figcaption { font-size: .85rem; color: #555; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.name { white-space: normal; overflow-wrap: anywhere; text-align: left; min-width: 9rem; }
.paper { display: none; }
@media (max-width: 40rem) {
  table { font-size: .78rem; } th, td { padding: .25rem .3rem; }
  th:first-child, td:first-child { white-space: normal; }
}
@media print {
  body { max-width: none; font-size: 11pt; } .wide { overflow: visible; } table { font-size: 8pt; }
  h2, h2 + p { break-after: avoid; } table, tr { break-inside: avoid; } details { display: none; }
  .paper { display: block; }
}
"""

_MOST_LEAKS = 50

_WORDS = {
    "use": ("use", "Use: nothing speaks against training with these images."),
    "caution": ("caution", "Caution: usable, if you know about the following."),
    "cannot judge": ("cannot", "Cannot judge: what is needed for a verdict is missing."),
    "do not use": ("not", "Do not use these images."),
}


def write_page(report: Report, pictures: Pictures, path: Path) -> Path:
    """Writes the page of what ``report.json`` holds, with pictures.

    Raises:
        MissingExtraError: Pillow or matplotlib is not installed.
    """
    parts = [
        _verdict(report),
        _puzzle(pictures),
        _images(pictures),
        _pairs(pictures),
        _profiles(pictures),
        _maps(pictures),
    ]
    parts += [_trilemma(report), _measures(report), _privacy(report), _notes(report), _key_on_paper(pictures)]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of synthetic images</title><style>{_STYLE}</style></head><body>"
        f"<h1>Evaluation of synthetic images</h1>{''.join(parts)}</body></html>\n"
    )
    write_whole(path, page.encode())
    return path


def _verdict(report: Report) -> str:
    style, words = _WORDS[report["verdict"]]
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in report["reasons"])
    counts = ", ".join(f"{count:,} {name.replace('_', '-')}" for name, count in report["counts"].items())
    return f'<div class="verdict {style}"><strong>{words}</strong><ul>{reasons}</ul>Images: {counts}.</div>'


def _puzzle(pictures: Pictures) -> str:
    drawn = "".join(
        _figure(draw_image(image, pictures), str(number)) for number, (image, _) in enumerate(pictures.puzzle, 1)
    )
    return (
        f"<h2>Which of these {len(pictures.puzzle)} images are synthetic?</h2><p>Write down your guess before you read "
        f'on. Who cannot tell gets half of them right.</p><div class="pairs">{drawn}</div>'
        f"<details><summary>Key</summary>Synthetic: {_key(pictures)}.</details>"
    )


def _key(pictures: Pictures) -> str:
    return ", ".join(str(number) for number, (_, is_synthetic) in enumerate(pictures.puzzle, 1) if is_synthetic)


def _key_on_paper(pictures: Pictures) -> str:
    """The key at the end of a printed page, where nothing can be opened."""
    return f'<p class="paper">Synthetic images of the first page: {_key(pictures)}.</p>'


def _images(pictures: Pictures) -> str:
    real, synthetic = draw_sheet(pictures.real, "real", pictures), draw_sheet(pictures.synthetic, "synthetic", pictures)
    return (
        "<h2>Real and synthetic images</h2><p>Evenly spread over each set, not chosen.</p>"
        f'<div class="grid">{_figure(real, "Real images")}{_figure(synthetic, "Synthetic images")}</div>'
    )


def _pairs(pictures: Pictures) -> str:
    pairs = pictures.pairs
    drawn = "".join(_figure(draw_pair(pair, pictures), pair.caption) for pair in pairs)
    return (
        f"<h2>Nearest real image of {len(pairs)} synthetic ones</h2><p>The most suspicious pairs: synthetic image "
        "left, nearest training image right, the numbers are their positions. If they show the same patient, the model "
        f'has memorised. p: how often an innocent image comes as near.</p><div class="pairs">{drawn}</div>'
    )


def _profiles(pictures: Pictures) -> str:
    histogram, spectrum = draw_profiles(pictures.profiles, pictures.value_range)
    return (
        '<h2>Brightness and sharpness</h2><div class="grid">'
        + _figure(histogram, "How often each intensity occurs. The curves should lie on each other.")
        + _figure(spectrum, "Fine detail stands right. Synthetic below real: blurred; above: noisy.")
        + "</div>"
    )


def _maps(pictures: Pictures) -> str:
    drawn = "".join(
        _figure(
            draw_map(each),
            f"Each point is an image, by its features ({each.features}). Synthetic points should cover the real ones: "
            "gaps are variety that is missing, islands are images that no patient has.",
        )
        for each in pictures.maps
    )
    return f'<h2>Map of the images</h2><div class="grid">{drawn}</div>'


def _measures(report: Report) -> str:
    rows = "".join(_row(result) for result in report["measures"].values())
    return (
        "<h2>Measures</h2><p>The floor is what real images reach against other real images: a perfect model reaches "
        "it. The ceiling is what blurred real images reach. The interval holds 95 %. The arrow shows which direction "
        'is better.</p><div class="wide"><table><tr><th>measure</th><th>value</th><th>interval</th><th>floor</th>'
        f"<th>ceiling</th><th>images</th></tr>{rows}</table></div>"
    )


def _row(result: Mapping[str, Any]) -> str:
    arrow = "↑" if result["better"] == "higher" else "↓"
    mark = f' <abbr title="{html.escape("; ".join(result["cautions"]))}">(!)</abbr>' if result["cautions"] else ""
    cells = [_number(result["value"]), f"{_number(result['low'])} – {_number(result['high'])}"]
    cells += [_number(result["floor"]), _number(result["ceiling"]), str(result["n"])]
    name = html.escape(result["name"]).replace("[", "<wbr>[")  # a phone breaks the line there
    return f"<tr><td>{name} {arrow}{mark}</td>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _trilemma(report: Report) -> str:
    """Quality, coverage and speed, and the brightness of each class of the masks."""
    found = report["trilemma"]
    shares = {"Quality (precision)": found.get("quality"), "Coverage": found.get("coverage")}
    cells = [f"<tr><td>{name}</td><td>{_share(value)}</td></tr>" for name, value in shares.items()]
    speed = found.get("samples_per_s")
    cells.append(f"<tr><td>Samples per second</td><td>{_number(speed) if speed else 'not measured'}</td></tr>")
    text = (
        "<h2>Quality, coverage, speed</h2><p>A generator trades one for the other. Quality and coverage are shares of "
        f'what real images reach.</p><div class="wide"><table>{"".join(cells)}</table></div>'
    )
    if not report["label_intensities"]:
        return text
    rows = "".join(
        f"<tr><td>{each['label']}</td><td>{_number(each['real'][1])}</td><td>{_number(each['real'][0])} – "
        f"{_number(each['real'][2])}</td><td>{_number(each['synthetic'][1])}</td><td>{each['outside']:.0%}</td></tr>"
        for each in report["label_intensities"]
    )
    return (
        f"{text}<h2>Brightness within the masks</h2><p>Median intensity in each class. Of real images, 2 % lie outside "
        'of the range.</p><div class="wide"><table><tr><th>class</th><th>real</th><th>98 % of real</th>'
        f"<th>synthetic</th><th>outside</th></tr>{rows}</table></div>"
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _privacy(report: Report) -> str:
    copies, leaks = report["copies"], report["leaks"]["leaks"]
    if copies["found"] is None:
        found = f"Copies could not be judged: {copies['calibrated_on']} held-out images or patients to calibrate on."
    else:
        found = (
            f"{copies['found']} images look like copies of training images; {copies['expected_by_chance']:.1f} are "
            f"expected by chance. Calibrated on {copies['calibrated_on']} held-out images or patients"
            f"{', within the ' + copies['compared_within'] if copies['compared_within'] else ''}."
        )
    rows = "".join(
        f"<tr><td>{html.escape(leak['kind'])}</td><td>{leak['index']}</td>"
        f'<td class="name">{html.escape(leak["seen_as"])}</td></tr>'
        for leak in leaks[:_MOST_LEAKS]
    )
    first = f"; the first {_MOST_LEAKS}, report.json has all" if len(leaks) > _MOST_LEAKS else ""
    table = f"<table><tr><th>by</th><th>held-out image</th><th>seen as</th></tr>{rows}</table>" if leaks else ""
    share, expected = report["duplicates"]["share"], report["duplicates"]["expected"]
    return (
        f"<h2>Copies, repetitions, leaks</h2><p>{found} {copies['identical']} equal a training image, pixel by "
        "pixel.</p>"
        f"<p>{share:.1%} of the synthetic images repeat another one ({expected:.0%} expected).</p>"
        f'<p>{len(leaks)} overlaps of held-out data found{first}.</p><div class="wide">{table}</div>'
    )


def _notes(report: Report) -> str:
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report["notes"])
    cautions = "".join(
        f"<li>{html.escape(result['name'])}: {html.escape(caution)}.</li>"
        for result in report["measures"].values()
        for caution in result["cautions"]
    )
    return f"<h2>Notes</h2><ul>{notes}{cautions}</ul>" if notes or cautions else ""


def _figure(url: str, caption: str) -> str:
    text = html.escape(caption)
    return f'<figure><img src="{url}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _number(value: float | None) -> str:
    """Four significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"
