//! The control plane's door: brokers register here; operator and command line look.

use std::pin::Pin;
use std::sync::Arc;

use access::certificate::Shown;
use access::logging;
use futures::{Stream, stream};
use proto::control::broker_report::Report;
use proto::control::registry_server::Registry;
use proto::control::{
    BrokerReport, DescribeClusterRequest, DescribeClusterResponse, FullReport, FullReportPart, RegistryAck,
    SetLogLevelsRequest, SetLogLevelsResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::cluster::{Cluster, Error};
use crate::table::{Refused, StreamId};

/// Topics of one broker, and groups: a bound, far above what a broker is made for.
const MOST_NAMES: usize = 1_000_000;

/// The service `gantry.control.v1.Registry`.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) certificate: Shown,
    pub(crate) log_control: Option<logging::Control>,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl Registry for Door {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<RegistryAck, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<Streaming<BrokerReport>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let (id, cut) = self.cluster.open_stream();
        let reports = Reports {
            inbound: request.into_inner(),
            place: Place { cluster: self.cluster.clone(), id },
            cut,
            stop: self.stop.clone(),
            ended: false,
            incomplete: None,
        };
        Ok(Response::new(Box::pin(stream::unfold(reports, Reports::next))))
    }

    async fn describe_cluster(
        &self,
        _: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        Ok(Response::new(self.cluster.describe(self.certificate.state())))
    }

    async fn set_log_levels(
        &self,
        request: Request<SetLogLevelsRequest>,
    ) -> Result<Response<SetLogLevelsResponse>, Status> {
        let Some(control) = &self.log_control else {
            return Err(Status::failed_precondition(
                "this process did not set up its logging by its configuration",
            ));
        };
        let levels = request.into_inner().levels;
        control.set(&levels).map_err(|error| Status::invalid_argument(error.to_string()))?;
        tracing::info!(?levels, "log levels changed");
        Ok(Response::new(SetLogLevelsResponse {}))
    }
}

/// A broker's stream. It lives in the response: when the connection breaks, the server drops the
/// response, and with it the broker's place in the table.
struct Reports {
    inbound: Streaming<BrokerReport>,
    place: Place,
    cut: CancellationToken,
    stop: CancellationToken,
    ended: bool,
    /// A full report whose parts are not all there.
    incomplete: Option<FullReport>,
}

struct Place {
    cluster: Arc<Cluster>,
    id: StreamId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cluster.close_stream(self.id);
    }
}

impl Reports {
    /// The next acknowledgement, or how the stream ends.
    async fn next(mut self) -> Option<(Result<RegistryAck, Status>, Self)> {
        while !self.ended {
            let report = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = self.cut.cancelled() => {
                    let why = "taken off the routes: silent for three heartbeats, or registered anew elsewhere";
                    Err(Status::aborted(why))
                }
                report = self.inbound.message() => match report {
                    Ok(Some(report)) => Ok(report),
                    Ok(None) | Err(_) => return None,
                },
            };
            let outcome = match report.and_then(|report| self.take(report)) {
                Ok(None) => continue,
                Ok(Some(ack)) => Ok(ack),
                Err(status) => {
                    tracing::warn!(reason = status.message(), "registration stream ended");
                    self.ended = true;
                    Err(status)
                }
            };
            return Some((outcome, self));
        }
        None
    }

    /// Puts a report into the table. Only then it is acknowledged, because then clients see it.
    fn take(&mut self, report: BrokerReport) -> Result<Option<RegistryAck>, Status> {
        let BrokerReport { sequence, report } = report;
        let whole = match report {
            Some(Report::Full(full)) => full,
            Some(Report::Part(part)) => self.with_part(part)?,
            Some(Report::Heartbeat(_)) if self.incomplete.is_some() => return Ok(None),
            Some(Report::Change(_)) if self.incomplete.is_some() => {
                return Err(Status::invalid_argument("a change comes amid the parts of a full report"));
            }
            Some(Report::Change(change)) => {
                self.place.cluster.change(self.place.id, change).map_err(status_of)?;
                return Ok(Some(RegistryAck { sequence }));
            }
            Some(Report::Heartbeat(_)) => {
                self.place.cluster.heartbeat(self.place.id).map_err(status_of)?;
                return Ok(None);
            }
            None => {
                return Err(Status::invalid_argument(
                    "a report says nothing: set full, part, change or heartbeat",
                ));
            }
        };
        if whole.more {
            self.incomplete = Some(whole);
            return Ok(None);
        }
        self.place.cluster.register(self.place.id, whole).map_err(status_of)?;
        Ok(Some(RegistryAck { sequence }))
    }

    /// The full report that this part belongs to, with it.
    fn with_part(&mut self, part: FullReportPart) -> Result<FullReport, Status> {
        let FullReportPart { topics, groups, more } = part;
        let Some(mut full) = self.incomplete.take() else {
            return Err(Status::invalid_argument("a part belongs to no full report: begin with that"));
        };
        full.topics.extend(topics);
        full.groups.extend(groups);
        full.more = more;
        let most = full.topics.len().max(full.groups.len());
        if most > MOST_NAMES {
            return Err(Status::resource_exhausted(format!(
                "a broker reports {most} topics or groups: at most {MOST_NAMES} are taken, use more broker groups"
            )));
        }
        Ok(full)
    }
}

fn status_of(error: Error) -> Status {
    let message = error.to_string();
    match error {
        Error::Invalid(_) => Status::invalid_argument(message),
        Error::Refused(Refused::LowerEpoch { .. } | Refused::NotRegistered) => {
            Status::failed_precondition(message)
        }
        Error::Refused(Refused::TooManyMembers) => Status::resource_exhausted(message),
    }
}
