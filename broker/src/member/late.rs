//! Services of a port that come and go while the port stays.

use std::convert::Infallible;
use std::sync::Arc;

use access::logging;
use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::{Ready, ready};
use proto::codec::SmallBuffers;
use proto::control::{SetLogLevelsRequest, SetLogLevelsResponse};
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic::service::Routes;
use tower::Service as _;

use crate::admin::set_log_levels;

/// The one call of the Admin service that is about the process.
const SET_LOG_LEVELS: &str = "/gantry.control.v1.Admin/SetLogLevels";

/// What a port serves beside what it always does.
#[derive(Clone)]
pub(crate) struct Late {
    routes: Arc<ArcSwapOption<Routes>>,
    log_levels: Option<logging::Control>,
}

impl Late {
    /// Nothing yet. What the process logs can be changed at any time.
    pub(crate) fn new(log_levels: Option<logging::Control>) -> Self {
        Self { routes: Arc::default(), log_levels }
    }

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
            None if request.uri().path() == SET_LOG_LEVELS => {
                let codec = SmallBuffers::default();
                Ok(Grpc::new(codec).unary(SetsLogLevels(self.log_levels), request).await.map(Body::new))
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

struct SetsLogLevels(Option<logging::Control>);

impl UnaryService<SetLogLevelsRequest> for SetsLogLevels {
    type Response = SetLogLevelsResponse;
    type Future = Ready<Result<tonic::Response<SetLogLevelsResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<SetLogLevelsRequest>) -> Self::Future {
        ready(set_log_levels(self.0.as_ref(), request.into_inner()).map(tonic::Response::new))
    }
}
