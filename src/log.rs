//! The crate's `tracing` events, each with a name of its own; without the feature they are nothing.

macro_rules! event {
    ($level:ident, $name:literal, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(name: $name, tracing::Level::$level, event = $name, $($field = %$value,)* $message);
        #[cfg(not(feature = "tracing"))]
        { $(let _ = &$value;)* }
    }};
}

pub(crate) use event;
