//! Members without a primary say to each other how far they are.

use std::sync::Arc;

use anyhow::Context as _;
use proto::control;
use proto::control::replication_client::ReplicationClient;
use replication::{Epoch, MemberId, Ordinal, Role, StoreId};
use store::LogOffset;
use tonic::transport::Endpoint;

use super::open::Open;

/// Hears of the others while there is no primary to follow.
pub(super) async fn introduce(open: Arc<Open>, ordinal: Ordinal) {
    let mut ticks = tokio::time::interval(open.settings.lease.retry);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if open.ask(|member| member.is_following() || matches!(member.role(), Role::Primary(_))) {
            continue;
        }
        let others = (0..open.settings.members).map(Ordinal).filter(|other| *other != ordinal);
        let answers = others.map(|other| {
            let open = Arc::clone(&open);
            async move {
                match hear(&open, other).await {
                    Ok((member, last, end, epoch)) => open.tell(|rules, now| {
                        rules.heard_epoch(now, epoch);
                        rules.heard(now, member, epoch, last, end);
                    }),
                    Err(error) => {
                        tracing::debug!(member = other.0, %error, "a member does not say how it is")
                    }
                }
            }
        });
        futures::future::join_all(answers).await;
    }
}

async fn hear(open: &Open, other: Ordinal) -> anyhow::Result<(MemberId, Epoch, LogOffset, Epoch)> {
    let limit = open.settings.lease.retry;
    let asked = async {
        let address = format!("http://{}", open.settings.address_of(other.0));
        let channel = Endpoint::from_shared(address)?.connect_timeout(limit).connect().await?;
        let request = control::IntroduceRequest {
            group: open.config.broker_name.clone(),
            epoch: open.ask(|member| member.epoch()).0,
        };
        let answer = ReplicationClient::new(channel).introduce(request).await?.into_inner();
        let member = answer.member.context("it does not say who it is")?;
        let member = MemberId { ordinal: Ordinal(member.ordinal), store: StoreId(member.store) };
        anyhow::ensure!(member.ordinal == other, "another member answers at that address");
        Ok((member, Epoch(answer.last_reign), LogOffset(answer.log_end), Epoch(answer.epoch)))
    };
    tokio::time::timeout(limit, asked).await?
}
