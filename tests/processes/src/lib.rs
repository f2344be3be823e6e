//! cookie-session over threads and forked processes, and what keys leave in memory.
