//! cookie-session on three servers over real sockets.
