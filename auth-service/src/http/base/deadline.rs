//! The deadline that a request takes with it.

use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;

use crate::http::base::SharedApp;
use crate::store::Deadline;

/// A handler whose database work keeps to the deadline of its request.
///
/// The handler gets an app whose store has the deadline. The extension [`Deadline`] is for the extractor that reads the body.
#[derive(Clone)]
pub(in crate::http) struct InTime<H>(pub(in crate::http) H);

impl<T, S: Within, H: Handler<T, S>> Handler<T, S> for InTime<H> {
    type Future = H::Future;

    fn call(self, mut request: Request, state: S) -> Self::Future {
        let deadline = Deadline::of_request();
        request.extensions_mut().insert(deadline.clone());
        self.0.call(request, state.within(deadline))
    }
}

/// State for handlers that can be bound to a deadline.
pub(in crate::http) trait Within {
    /// The same, with a store that has this deadline.
    fn within(self, deadline: Deadline) -> Self;
}

impl Within for SharedApp {
    fn within(self, deadline: Deadline) -> Self {
        Arc::new(self.as_ref().within(deadline))
    }
}

#[cfg(test)]
impl Within for () {
    fn within(self, _: Deadline) {}
}
