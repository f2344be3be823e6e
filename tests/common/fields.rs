//! The names in a configuration, at each level: whatever plants something everywhere goes through these.

pub const FIELDS: [&str; 17] = [
    "name",
    "context",
    "domain",
    "path",
    "same_site",
    "partitioned",
    "insecure_for_local_http",
    "max_set_cookie",
    "mode",
    "accept_mode",
    "idle_timeout",
    "absolute_timeout",
    "max_own_lifetime",
    "reissue_after",
    "keys",
    "formerly",
    "keep_old_cookies",
];
pub const KEY_FIELDS: [&str; 4] = ["primary", "primary_file", "fallbacks", "fallbacks_file"];
pub const IDENTITY_FIELDS: [&str; 7] = ["name", "domain", "path", "partitioned", "context", "mode", "until"];
