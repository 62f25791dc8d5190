//! Progress of long work: a bar or a line that is rewritten, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

/// Progress on standard error. Nothing is shown with `--quiet`, or if standard error is not a terminal.
pub(in crate::cli) struct Progress(ProgressBar);

impl Progress {
    /// A bar.
    pub(in crate::cli) fn bar(output: Output) -> Self {
        let template = "{prefix} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left";
        Self::new(output, ProgressBar::no_length().with_style(style(template)))
    }

    /// A line of text that changes.
    pub(in crate::cli) fn line(output: Output) -> Self {
        let progress = Self::new(output, ProgressBar::no_length().with_style(style("{spinner} {wide_msg}")));
        progress.0.enable_steady_tick(Duration::from_millis(200));
        progress
    }

    fn new(output: Output, bar: ProgressBar) -> Self {
        // Standard error is hidden by the library itself if it is not a terminal.
        let target = if output.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        bar.set_draw_target(target);
        Self(bar)
    }

    /// Whether anybody sees it.
    pub(in crate::cli) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// Shows how much of the work with this name is done.
    pub(in crate::cli) fn show(&self, name: &'static str, done: u64, total: u64) {
        if self.0.prefix() != name {
            self.0.set_prefix(name);
            self.0.reset();
        }
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Shows a text.
    pub(in crate::cli) fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
