//! Logs and metrics of the process.

use std::fmt;
use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::panic;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat};
use crate::runtime::metric;

/// An error of setting up logs or metrics.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log` cannot be read.
    #[error("log: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a logger already.
    #[error("the process has a logger already")]
    Logger(#[from] tracing_subscriber::util::TryInitError),
    /// The process has a metrics recorder already.
    #[error("the process has a metrics recorder already")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
}

/// Sends logs to standard error, in the format of `log_format`. Works once per process.
pub fn init_logs(config: &Config) -> Result<(), TelemetryError> {
    let on_terminal = io::stderr().is_terminal();
    let filter = EnvFilter::builder().with_regex(false).parse(&config.log)?;
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let as_text = match config.log_format {
        LogFormat::Auto => on_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let format = tracing_subscriber::fmt::format();
    if as_text {
        logger.event_format(Text(format.with_ansi(on_terminal))).finish().try_init()?;
    } else {
        let fields = JsonFields::new();
        logger
            .fmt_fields(fields)
            .event_format(Json(format.json().flatten_event(true)))
            .finish()
            .try_init()?;
    }
    panic::set_hook(Box::new(|panicked| {
        // Only the location is logged: the message may quote input of a client.
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked");
    }));
    Ok(())
}

/// The labels of every line that is logged for a request.
#[derive(Clone, Debug)]
pub struct RequestLabels {
    /// The request's id: ASCII letters, digits and `- _ . :`.
    pub id: String,
    /// The trace it belongs to, in lower-case hex (W3C Trace Context).
    pub trace_id: Option<String>,
}

tokio::task_local! {
    static LABELS: RequestLabels;
}

/// Runs the future of a request with its labels. They are formatted only when a line is logged.
pub async fn in_request<T>(labels: RequestLabels, request: impl Future<Output = T>) -> T {
    LABELS.scope(labels, request).await
}

/// Adds the labels to the end of a line.
struct Text<F>(F);

impl<S, N, F> FormatEvent<S, N> for Text<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(line.trim_end_matches('\n'))?;
        let _ = LABELS.try_with(|RequestLabels { id, trace_id }| {
            write!(writer, " request_id={id}")?;
            trace_id.iter().try_for_each(|trace_id| write!(writer, " trace_id={trace_id}"))
        });
        writer.write_char('\n')
    }
}

/// Adds the labels to the beginning of an object. Their characters need no escapes.
struct Json<F>(F);

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let Some(members) = line.strip_prefix('{') else { return writer.write_str(&line) };
        writer.write_char('{')?;
        let _ = LABELS.try_with(|RequestLabels { id, trace_id }| {
            write!(writer, r#""request_id":"{id}","#)?;
            trace_id.iter().try_for_each(|trace_id| write!(writer, r#""trace_id":"{trace_id}","#))
        });
        writer.write_str(members)
    }
}

/// The metrics of this process.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Collects all metrics of the process from now on. Works once per process.
    pub fn install() -> Result<Self, TelemetryError> {
        let handle = PrometheusBuilder::new().install_recorder()?;
        metric::describe();
        Ok(Self(handle))
    }

    /// Metrics that stay empty, for a router in a test.
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }

    /// The metrics in Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }
}
