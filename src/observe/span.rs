//! Spans for the `tracing` crate; nothing without the feature.

/// Begins a span of this name, which ends when the answer is dropped.
macro_rules! span {
    ($name:literal $(, $field:ident = $value:expr)*) => {{
        #[cfg(feature = "tracing")]
        let span = tracing::info_span!(target: "piton", $name $(, $field = $value)*).entered();
        #[cfg(not(feature = "tracing"))]
        let span = $crate::observe::NoSpan;
        span
    }};
}

pub(crate) use span;

/// Stands for a span where there are none.
#[cfg(not(feature = "tracing"))]
pub(crate) struct NoSpan;
