//! The real front ends with the files of `deploy/`: one module for each program, and what all of them must do.
//!
//! `FRONT_ENDS_SECONDS=60` makes each phase of the load that long; `-- --nocapture` shows what was measured.

mod caddy;
mod guarded;
mod haproxy;
mod httpd;
mod load;
mod nginx;
mod routes;
