//! Pages for people: HTML in one file that needs nothing else, on a screen, on a telephone, on paper, light or dark.
//!
//! What evaluations and trainings write has its frame, its style, its tables and its curves from here.
//!
//! ```
//! use viscera_page::{Line, Look, Page, line_plot};
//! let mut page = Page::default();
//! page.section("Loss");
//! let line = Line { points: vec![(1.0, 0.9), (2.0, 0.4)], what: "total".to_owned(), look: Look::Plain };
//! page.figure(&line_plot(&[line], ["step", "loss"], false), "What the network was trained against.");
//! let html = page.finish("A training");
//! assert!(html.contains("Figure 1.") && !html.contains("<script"));
//! ```

mod base64;
mod contour;
mod page;
mod plot;
mod text;

pub use base64::base64;
pub use contour::{OUTLINE_KEY, contours};
pub use page::{Page, Table};
pub use plot::{Frame, Line, Look, Scale, WIDTH, left_axis, line_plot, lower_axis, open};
pub use text::{NONE, Text, number, organ, rgb};
