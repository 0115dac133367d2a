"""Whether every word in a picture can be read."""

from itertools import combinations

from tinyfoa_np.plots import canvas


def texts(figure):
    """Every text there is to read in a picture, with the rectangle it takes."""
    figure.canvas.draw()
    found = []
    for axes in figure.axes:
        found += axes.texts
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            first, last = sorted(axis.get_view_interval())
            found += [axis.label, *(t.label1 for t in axis.get_major_ticks() if first <= t.get_loc() <= last)]
    return {text: text.get_window_extent() for text in found if text.get_visible() and text.get_text().strip()}


def assert_legible(figure):
    boxes = texts(figure)
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= canvas.WIDTH and box.y1 <= canvas.HEIGHT, text.get_text()
        assert text.get_fontsize() >= canvas.SMALL
    for (a, box), (b, other) in combinations(boxes.items(), 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        up = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert across <= 1 or up <= 3, (a.get_text(), b.get_text())  # a line's height has room above and below letters


def said(figure):
    return [text.get_text() for text in texts(figure)]
