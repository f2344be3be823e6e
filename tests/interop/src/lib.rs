//! cookie-session against programs in Node and Python that were written from the wire format page.
