//! A picture of a machine and its guests, as SVG.
//!
//! ```text
//!   HostView ────┐                            ┌ this machine ┐        ┌ web1 ────────┐
//!   AllView ─────┼─▶ layout ─▶ draw ─▶ SVG    │ 1-4  Ultra   ├────────┤ hci0:1 stick │
//!   EffectsView ─┘                            │      rule    │        └──────────────┘
//!                                             └──────────────┘
//! ```
//!
//! [`draw`] is a pure function of views. All strings are untrusted: the names that devices report,
//! the names of guests, and the texts of rules. Each string is cut to the width of its area,
//! escaped and clipped: it can neither become markup nor cover anything else.
//!
//! A guest is placed beside its devices, so that lines are short and few of them cross. The picture
//! grows with the number of devices; its width does not.

#![forbid(unsafe_code)]

mod guest_positions;
mod guests;
mod layout;
mod paint;
mod state;
mod text;

use vusb::rules::EffectsView;
use vusb::view::{AllView, HostView};

use crate::layout::Layout;
use crate::paint::{Area, Canvas};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Topology<'a> {
    /// The devices of this machine.
    pub host: &'a HostView,
    /// The guests.
    pub domains: &'a AllView,
    /// What the rules mean for the devices; `None` if that is unknown.
    pub effects: Option<&'a EffectsView>,
}

/// Where a picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedding {
    /// In its own file, which contains the style.
    Document,
    /// In a page that contains [`STYLE`]. Elements that the reader can select have `data-`
    /// attributes and can be reached with the keyboard.
    Page,
}

/// The style of a picture, for a page.
pub const STYLE: &str = include_str!("style.css");

/// Draws a machine and its guests. The result is well-formed XML 1.0 without a declaration.
///
/// Its length is at most 4 KiB plus 3 KiB for each device, controller and guest.
pub fn draw(topology: Topology<'_>, embedding: Embedding) -> String {
    let layout = Layout::new(topology);
    let mut canvas = Canvas::default();
    let (width, height) = (layout::WIDTH, layout.height);
    canvas.rectangle("page", Area { x: 0, y: 0, width, height }, 0);
    layout.draw(&mut canvas, embedding);
    let body = canvas.finish();
    let (style, role) = match embedding {
        Embedding::Document => (format!("<style>\n{STYLE}</style>\n"), "img"),
        Embedding::Page => (String::new(), "group"),
    };
    let summary = text::escaped(&layout.summary());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"vusb-picture\" role=\"{role}\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>USB of this machine and its guests</title>\n<desc>{summary}</desc>\n\
         {style}{body}</svg>\n"
    )
}
