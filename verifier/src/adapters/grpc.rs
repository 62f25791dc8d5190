//! Adapters for tonic: gRPC statuses for refusals, and an interceptor.

use std::marker::PhantomData;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, header};
use serde::de::DeserializeOwned;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::adapters::credential::{AuthError, bearer_token};
use crate::adapters::identity::Caller;
use crate::adapters::tower::Answer;
use crate::core::claims::NoExtra;
use crate::core::error::VerifyError;
use crate::multi::MultiVerifier;
use crate::verifier::Verifier;

/// Refused requests get a gRPC status instead of an HTTP error: that of [`Status::from`] an [`AuthError`].
///
/// ```no_run
/// use tonic::service::LayerExt;
/// use tonic::transport::Server;
/// use verifier::{Grpc, RequirePermission, Verifier};
///
/// # async fn serve(verifier: Verifier) -> Result<(), Box<dyn std::error::Error>> {
/// # let (_, health) = tonic_health::server::health_reporter();
/// let permission = RequirePermission::all(["health:read"]).answering(Grpc);
/// Server::builder()
///     .layer(verifier.layer().answering(Grpc))
///     .add_service(permission.named_layer(health))
///     .serve("127.0.0.1:50051".parse()?)
///     .await?;
/// # Ok(()) }
/// ```
///
/// A handler gets the token from [`caller`](crate::caller):
///
/// ```
/// # use std::sync::Arc;
/// # use tonic::{Request, Response, Status};
/// use verifier::{Verified, caller};
///
/// async fn greet(request: Request<()>) -> Result<Response<String>, Status> {
///     let user: Arc<Verified> = caller(request.extensions())?;
///     user.require_permission("greet")?;
///     Ok(Response::new(format!("hello, {}", user.subject())))
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

impl<R: Default> Answer<R> for Grpc {
    fn answer(&self, error: AuthError) -> Response<R> {
        Status::from(error).into_http()
    }
}

/// `UNAUTHENTICATED` with the challenge as `www-authenticate`, `PERMISSION_DENIED`, `UNAVAILABLE` with
/// `grpc-retry-pushback-ms` (gRFC A6), or `INTERNAL` for a missing layer. It does not contain the reason why
/// a token is invalid.
impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        let code = match &error {
            AuthError::MissingToken
            | AuthError::MalformedCredential
            | AuthError::Refused(VerifyError::Invalid(_)) => Code::Unauthenticated,
            AuthError::Refused(VerifyError::Forbidden(_)) => Code::PermissionDenied,
            AuthError::Refused(VerifyError::Unavailable(_)) => Code::Unavailable,
            AuthError::NoLayer => Code::Internal,
        };
        let mut metadata = HeaderMap::new();
        if let Some(challenge) = error.www_authenticate().and_then(|text| HeaderValue::try_from(&*text).ok())
        {
            metadata.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let AuthError::Refused(error) = &error
            && let Some(seconds) = error.retry_after()
        {
            metadata.insert("grpc-retry-pushback-ms", HeaderValue::from((seconds * 1000).0));
        }
        Self::with_metadata(code, error.title(), MetadataMap::from_headers(metadata))
    }
}

impl From<VerifyError> for Status {
    fn from(error: VerifyError) -> Self {
        AuthError::from(error).into()
    }
}

/// Accepts requests with a valid token, for a single service: `MyServer::with_interceptor(service,
/// VerifyInterceptor::<NoExtra>::new(verifier))`. Like [`Verifier::verify_now`] it never waits or fetches
/// keys, so call [`ready`](Verifier::ready) before. [`VerifyLayer`](crate::VerifyLayer) can wait.
#[derive(Debug)]
pub struct VerifyInterceptor<C = NoExtra> {
    verifier: MultiVerifier,
    claims: PhantomData<fn() -> C>,
}

impl<C> VerifyInterceptor<C> {
    /// Stores `Arc<Verified<C>>` in the extensions of requests with a token that `verifier` accepts.
    pub fn new(verifier: impl Into<MultiVerifier>) -> Self {
        Self { verifier: verifier.into(), claims: PhantomData }
    }
}

impl<C> Clone for VerifyInterceptor<C> {
    fn clone(&self) -> Self {
        Self::new(self.verifier.clone())
    }
}

impl<C: DeserializeOwned + Send + Sync + 'static> Interceptor for VerifyInterceptor<C> {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let check = |token| -> Result<Caller<C>, AuthError> {
            let verifier: &Verifier = self.verifier.choose(token).map_err(VerifyError::from)?;
            Ok(Caller::Known(Arc::new(verifier.verify_now(token)?), verifier.clone()))
        };
        let found = bearer_token(request.metadata().as_ref()).and_then(check);
        let caller = found.inspect_err(|error| tracing::debug!(%error, "request refused"))?;
        caller.record(request.extensions_mut());
        Ok(request)
    }
}
