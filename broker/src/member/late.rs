//! Services of a port that come and go while the port stays.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use tonic::Status;
use tonic::service::Routes;
use tower::Service as _;

/// What a port serves beside what it always does.
#[derive(Clone, Default)]
pub(crate) struct Late {
    routes: Arc<ArcSwapOption<Routes>>,
}

impl Late {
    /// From now on these are served; with `None` calls are answered with UNAVAILABLE.
    pub(crate) fn set(&self, routes: Option<Routes>) {
        self.routes.store(routes.map(Arc::new));
    }

    /// These always, and what comes.
    pub(crate) fn beside(&self, always: Routes) -> Routes {
        let late = self.clone();
        let router = always.prepare().into_axum_router();
        router.fallback_service(tower::service_fn(move |request| late.clone().answer(request))).into()
    }

    async fn answer(self, request: Request) -> Result<Response, Infallible> {
        let routes = self.routes.load_full();
        match routes {
            Some(routes) => {
                let answer = Routes::clone(&routes).call(request).await?;
                Ok(answer.map(Body::new))
            }
            None => {
                let status = Status::unavailable(
                    "this member is not the primary of its broker group: ask the primary",
                );
                Ok(status.into_http::<Body>())
            }
        }
    }
}
