//! The real front ends with the files of `deploy/`: one module for each program, and common checks.
//!
//! `FRONT_ENDS_SECONDS=60` sets the length of each phase of the load; `-- --nocapture` shows the
//! measurements.

mod caddy;
mod guarded;
mod haproxy;
mod httpd;
mod load;
mod nginx;
mod routes;
