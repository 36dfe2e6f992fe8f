//! Logs to standard error, and traces to an OTLP collector when one is named.

use anyhow::{Context, Result};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Keeps the trace exporter alive; spans still queued are sent when it is dropped.
#[derive(Debug, Default)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            let _ = provider.shutdown();
        }
    }
}

/// Starts logging. The filter is `KYBERN_LOG` (`info,openraft=warn` when unset), the format JSON with
/// `KYBERN_LOG_FORMAT=json`. Must run inside a tokio runtime when an endpoint is given.
///
/// # Errors
/// When the filter or the endpoint can't be used.
pub fn start(service: &'static str, debug: bool, otlp_endpoint: Option<&str>) -> Result<Guard> {
    // The consensus library tells of every step at info.
    let default = if debug { "debug,openraft=info" } else { "info,openraft=warn" };
    let text = std::env::var("KYBERN_LOG").unwrap_or_else(|_| default.into());
    let filter = EnvFilter::try_new(&text).with_context(|| format!("KYBERN_LOG={text}"))?;
    let json = std::env::var("KYBERN_LOG_FORMAT").is_ok_and(|f| f == "json");
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = if json { format.json().boxed() } else { format.with_ansi(false).boxed() };
    let registry = tracing_subscriber::registry().with(log.with_filter(filter));
    let Some(endpoint) = otlp_endpoint else {
        registry.init();
        return Ok(Guard::default());
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("--otlp-endpoint {endpoint}"))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(opentelemetry_sdk::Resource::builder().with_service_name(service).build())
        .build();
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer(service));
    registry.with(traces.with_filter(EnvFilter::new("info"))).init();
    Ok(Guard(Some(provider)))
}
