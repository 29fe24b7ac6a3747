//! SVG elements. Every text is drawn by this module, which escapes it and clips it to its area.

use std::fmt::Write as _;

use crate::state::{Glyph, Look};
use crate::text::{escaped, fitting};

/// A rectangle in pixels. Its text is clipped to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Font {
    /// Its classes in the style.
    class: &'static str,
    /// Its size in pixels, as in the style.
    size: i32,
    mono: bool,
}

pub(crate) const TITLE: Font = Font { class: "title", size: 21, mono: false };
pub(crate) const HEAD: Font = Font { class: "head", size: 17, mono: false };
/// Bold text is wider: its size here is larger than that in the style.
pub(crate) const NAME: Font = Font { class: "name", size: 14, mono: false };
pub(crate) const SMALL: Font = Font { class: "small", size: 11, mono: false };
pub(crate) const SMALL_END: Font = Font { class: "small end", size: 11, mono: false };
pub(crate) const MONO: Font = Font { class: "mono", size: 11, mono: true };

/// A picture that is being drawn.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    out: String,
}

impl Canvas {
    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// Adds markup. Only constants and numbers may be in it.
    fn add(&mut self, markup: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(markup);
        self.out.push('\n');
    }

    /// Opens a group. The values of its attributes are escaped.
    pub(crate) fn open(&mut self, class: &str, attributes: &[(&str, &str)]) {
        let mut text = String::new();
        for (key, value) in attributes {
            let value = escaped(&crate::text::visible(value));
            let _ = write!(text, " {key}=\"{value}\"");
        }
        self.add(format_args!("<g class=\"{class}\"{text}>"));
    }

    pub(crate) fn close(&mut self) {
        self.add(format_args!("</g>"));
    }

    pub(crate) fn rectangle(&mut self, class: &str, at: Area, radius: i32) {
        let Area { x, y, width, height } = at;
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\"/>"
        ));
    }

    /// A single line of text, cut and clipped to its area.
    pub(crate) fn text(&mut self, at: Area, font: Font, text: &str) {
        self.coloured_text(at, font, "", text);
    }

    pub(crate) fn coloured_text(&mut self, at: Area, font: Font, colour: &str, text: &str) {
        let Area { x, y, width, height } = at;
        let text = escaped(&fitting(text, width, font.size, font.mono));
        if text.is_empty() || width <= 0 {
            return;
        }
        let class = font.class;
        let (separator, anchor) = (
            if colour.is_empty() { "" } else { " " },
            if class.ends_with("end") { width } else { 0 },
        );
        // The baseline: the middle of the area, lowered by about a third of the font size.
        let base = height / 2 + (font.size * 36) / 100;
        self.add(format_args!(
            "<svg class=\"label\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\">\
             <text class=\"{class}{separator}{colour}\" x=\"{anchor}\" y=\"{base}\">{text}</text></svg>"
        ));
    }

    /// A horizontal line.
    pub(crate) fn across(&mut self, class: &str, x: i32, y: i32, width: i32) {
        self.add(format_args!("<path class=\"{class}\" d=\"M{x} {y}.5h{width}\"/>"));
    }

    /// A line from the row of a hub down to the row of a device behind it.
    pub(crate) fn branch(&mut self, x: i32, from: i32, y: i32, length: i32) {
        self.add(format_args!("<path class=\"tree\" d=\"M{x}.5 {from}V{y}h{length}\"/>"));
    }

    /// A curve from a host device to its row in a guest.
    pub(crate) fn line(&mut self, class: &str, look: Look, from: (i32, i32), to: (i32, i32)) {
        let ((x, y), (to_x, to_y)) = (from, to);
        let bend = (to_x - x) * 55 / 100;
        let (first, second) = (x + bend, to_x - bend);
        let colour = look.colour();
        self.add(format_args!(
            "<path class=\"{class} {colour}\" d=\"M{x} {y}C{first} {y} {second} {to_y} {to_x} {to_y}\"/>"
        ));
    }

    pub(crate) fn dot(&mut self, look: Look, x: i32, y: i32) {
        let colour = look.colour();
        self.add(format_args!("<circle class=\"{colour}-fill\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>"));
    }

    /// The symbol of a state, 12 pixels wide, centred on a point.
    pub(crate) fn glyph(&mut self, look: Look, x: i32, y: i32) {
        let colour = look.colour();
        let circle = |fill: &str, class: &str| {
            format!("<circle class=\"{class}{colour}{fill}\" cx=\"{x}\" cy=\"{y}\" r=\"4.5\"/>")
        };
        let (left, right, top, bottom) = (x - 4, x + 4, y - 4, y + 4);
        let drawn = match look.glyph() {
            Glyph::Full => circle("-fill", ""),
            Glyph::Ring => circle("", "glyph "),
            Glyph::Half => format!(
                "{}<path class=\"{colour}-fill\" d=\"M{x} {top}a4 4 0 0 1 0 8z\"/>",
                circle("", "glyph ")
            ),
            Glyph::Cross => format!(
                "<path class=\"glyph {colour}\" d=\"M{left} {top}L{right} {bottom}M{left} {bottom}L{right} {top}\"/>"
            ),
            Glyph::Bar => format!(
                "{}<path class=\"glyph {colour}\" d=\"M{} {}L{} {}\"/>",
                circle("", "glyph "),
                x - 3,
                y + 3,
                x + 3,
                y - 3
            ),
            Glyph::Diamond => format!(
                "<path class=\"{colour}-fill\" d=\"M{x} {}L{} {y}L{x} {}L{} {y}z\"/>",
                y - 6,
                x + 6,
                y + 6,
                x - 6
            ),
            Glyph::Triangle => format!(
                "<path class=\"{colour}-fill\" d=\"M{x} {}L{} {}H{}z\"/>",
                y - 6,
                x + 6,
                y + 5,
                x - 6
            ),
        };
        self.add(format_args!("{drawn}"));
    }
}
