//! How each fault is done. Everything that breaks is noted at the world first, which mends it afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trials::dice::Dice;

use super::plan::{Fault, Way, Who};
use super::reign::{Reign, Watch};
use super::world::{Pod, Undo, World};
use crate::{process, settings};

/// A frozen process that the kubelet should kill: it has so long beyond that.
const KILLED_WITHIN: Duration = Duration::from_secs(20);
const DELETED_WITHIN: Duration = Duration::from_secs(120);
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(60);

/// What a fault finds.
pub(super) struct Scene<'a> {
    /// The cluster.
    pub(super) world: &'a World<'a>,
    /// The Lease.
    pub(super) watch: &'a Watch,
    /// Where the name server's control plane answers.
    pub(super) server: &'a str,
    /// The members, by ordinal.
    pub(super) pods: Vec<Pod>,
    /// The reign that the fault meets.
    pub(super) reign: Reign,
    /// What is left open by the plan.
    pub(super) dice: Dice,
}

/// A fault that was done; the world is broken still, where it does not heal by itself.
pub(super) struct Struck {
    /// When it hit.
    pub(super) at: Instant,
    /// Whom: pods and nodes.
    pub(super) whom: String,
}

impl Scene<'_> {
    /// Does it, for as long as it lasts.
    pub(super) fn strike(&mut self, fault: Fault) -> Result<Struck> {
        match fault {
            Fault::Killed(who) => {
                let pod = self.one(who);
                self.kill(&[&pod])
            }
            Fault::TwoKilled => {
                let (primary, replica) = (self.one(Who::Primary), self.one(Who::Replica));
                self.kill(&[&primary, &replica])
            }
            Fault::AllKilled => {
                let pods = self.pods.clone();
                self.kill(&pods.iter().collect::<Vec<_>>())
            }
            Fault::Deleted(who) => self.delete(who, ""),
            Fault::Forced(who) => self.delete(who, "--grace-period=0 --force"),
            Fault::Frozen(who, seconds) => self.freeze(who, seconds),
            Fault::Resumed(who, seconds) => self.freeze_and_resume(who, seconds),
            Fault::Apart(who, way, seconds) => {
                let pod = self.one(who);
                let others: Vec<_> =
                    self.pods.iter().filter(|other| other.node != pod.node).cloned().collect();
                let peers: Vec<_> = others.iter().map(|other| other.node.as_str()).collect();
                self.cut(&pod, &peers, way, seconds)
            }
            Fault::Unheard(who, way, seconds) => {
                let pod = self.one(who);
                self.cut(&pod, &["cp"], way, seconds)
            }
            Fault::Unplugged(who, seconds) => {
                let pod = self.one(who);
                let struck = struck(&pod);
                self.world.node(&format!("cut {}", pod.node), Undo::Cables)?;
                self.lasts(seconds).map(|()| struck)
            }
            Fault::Slow(who, kbit, seconds) => {
                let pod = self.one(who);
                let struck = struck(&pod);
                self.world.node(&format!("slow {} {kbit}kbit", pod.node), Undo::Cables)?;
                self.lasts(seconds).map(|()| struck)
            }
            Fault::NodeLost(who, seconds) => {
                let pod = self.one(who);
                let struck = struck(&pod);
                self.world.node(&format!("kill {}", pod.node), Undo::Power(pod.node.clone()))?;
                self.lasts(seconds).map(|()| struck)
            }
            Fault::VolumeLost(who) => self.lose_volume(who),
            Fault::ApiFrozen(seconds) => {
                let struck = Struck { at: Instant::now(), whom: "cp".to_owned() };
                self.freeze_api()?;
                self.lasts(seconds).map(|()| struck)
            }
            Fault::ApiKilled(seconds) => {
                let struck = Struck { at: Instant::now(), whom: "cp".to_owned() };
                self.world.node("stop-daemon cp kube-apiserver KILL", Undo::Daemons("cp".to_owned()))?;
                self.lasts(seconds).map(|()| struck)
            }
            Fault::WithoutOperator => {
                self.world.stop_operator()?;
                let pod = self.one(Who::Primary);
                let struck = self.kill(&[&pod])?;
                self.taken_over()?;
                Ok(struck)
            }
            Fault::WithoutApi(seconds) => {
                let pod = self.one(Who::Primary);
                let pids = self.world.processes(&[&pod])?;
                self.freeze_api()?;
                let struck = struck(&pod);
                pids.into_iter().try_for_each(|pid| self.world.kill(pid))?;
                self.lasts(seconds).map(|()| struck)
            }
            Fault::Switchover => self.switch_over(),
            Fault::Command => self.command(),
            Fault::HeirKilled => {
                let heir = self.one(Who::Replica);
                let pids = self.world.processes(&[&heir])?;
                let struck = struck(&heir);
                self.annotate(&heir)?;
                pids.into_iter().try_for_each(|pid| self.world.kill(pid))?;
                Ok(struck)
            }
        }
    }

    fn one(&mut self, who: Who) -> Pod {
        let primary = self.reign.primary;
        match who {
            Who::Primary => self.pods[primary].clone(),
            Who::Replica => {
                let others: Vec<_> = (0..self.pods.len()).filter(|ordinal| *ordinal != primary).collect();
                self.pods[*self.dice.one_of(&others)].clone()
            }
        }
    }

    fn lasts(&self, seconds: u64) -> Result<()> {
        self.world.stop.pass(Duration::from_secs(seconds))
    }

    /// Waits until another reign has begun.
    fn taken_over(&self) -> Result<()> {
        let before = self.reign.epoch;
        let new = |reign: &Reign| reign.epoch > before && reign.held;
        self.watch.until("another reign", TAKES_OVER_WITHIN, self.world.stop, new).map(drop)
    }

    fn kill(&self, pods: &[&Pod]) -> Result<Struck> {
        let pids = self.world.processes(pods)?;
        let whom: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let struck = Struck { at: Instant::now(), whom: whom.join(", ") };
        pids.into_iter().try_for_each(|pid| self.world.kill(pid))?;
        Ok(struck)
    }

    fn delete(&mut self, who: Who, how: &str) -> Result<Struck> {
        let pod = self.one(who);
        let struck = struck(&pod);
        let words = format!("-n {} delete pod {} {how}", self.world.namespace, pod.name);
        self.world.cluster.kubectl_within(&words, DELETED_WITHIN)?;
        if who == Who::Primary {
            self.taken_over()?;
        }
        Ok(struck)
    }

    fn freeze(&mut self, who: Who, seconds: u64) -> Result<Struck> {
        let pod = self.one(who);
        let pids = self.world.processes(&[&pod])?;
        let struck = struck(&pod);
        for pid in pids {
            self.world.freeze(pid)?;
            self.world.gone_within(pid, Duration::from_secs(seconds) + KILLED_WITHIN)?;
        }
        Ok(struck)
    }

    /// The kubelet would kill it, so that is frozen too, and goes on first: the process must find out by itself what it missed.
    fn freeze_and_resume(&mut self, who: Who, seconds: u64) -> Result<Struck> {
        let pod = self.one(who);
        let pids = self.world.processes(&[&pod])?;
        let daemon = Undo::Daemon(pod.node.clone(), "kubelet".to_owned());
        self.world.node(&format!("stop-daemon {} kubelet STOP", pod.node), daemon)?;
        let struck = struck(&pod);
        pids.into_iter().try_for_each(|pid| self.world.freeze(pid))?;
        self.lasts(seconds).map(|()| struck)
    }

    fn cut(&self, pod: &Pod, peers: &[&str], way: Way, seconds: u64) -> Result<Struck> {
        let struck = struck(pod);
        for peer in peers {
            let words = match way {
                Way::Both => format!("cut {} {peer}", pod.node),
                Way::Deaf => format!("deafen {} {peer}", pod.node),
                Way::Mute => format!("deafen {peer} {}", pod.node),
            };
            self.world.node(&words, Undo::Cables)?;
        }
        self.lasts(seconds).map(|()| struck)
    }

    fn lose_volume(&mut self, who: Who) -> Result<Struck> {
        let pod = self.one(who);
        let uid = self.world.kubectl(&format!("get pod {} -o jsonpath={{.metadata.uid}}", pod.name))?;
        let struck = struck(&pod);
        self.world.node(&format!("kill {}", pod.node), Undo::Power(pod.node.clone()))?;
        self.world.kubectl(&format!("delete pvc data-{} --wait=false", pod.name))?;
        self.world.taint(&pod.node)?;
        self.world.kubectl(&format!("delete pod {} --grace-period=0 --force --wait=false", pod.name))?;
        let end = Instant::now() + TAKES_OVER_WITHIN;
        loop {
            let now = self
                .world
                .kubectl(&format!("get pod {} --ignore-not-found -o jsonpath={{.metadata.uid}}", pod.name))?;
            let volume = self.world.kubectl(&format!(
                "get pvc data-{} --ignore-not-found -o jsonpath={{.metadata.deletionTimestamp}}",
                pod.name
            ))?;
            if now != uid && volume.is_empty() {
                return Ok(struck);
            }
            anyhow::ensure!(Instant::now() < end, "{} and its volume do not go", pod.name);
            self.lasts(1)?;
        }
    }

    fn freeze_api(&self) -> Result<()> {
        let (machine, name) = ("cp".to_owned(), "kube-apiserver".to_owned());
        self.world.node("stop-daemon cp kube-apiserver STOP", Undo::Daemon(machine, name))
    }

    fn annotate(&mut self, to: &Pod) -> Result<()> {
        let ordinal = to.name.rsplit('-').next().context("a pod's name has an ordinal")?.to_owned();
        let id = self.dice.any();
        let group = self.world.group;
        self.world.kubectl(&format!(
            "annotate bg/{group} --overwrite mq.gantry.dev/switchover-to={ordinal}@{id}"
        ))?;
        Ok(())
    }

    fn switch_over(&mut self) -> Result<Struck> {
        let heir = self.one(Who::Replica);
        let struck = struck(&heir);
        self.annotate(&heir)?;
        self.taken_over()?;
        Ok(struck)
    }

    fn command(&mut self) -> Result<Struck> {
        let heir = self.one(Who::Replica);
        let ordinal = heir.name.rsplit('-').next().context("a pod's name has an ordinal")?;
        let struck = struck(&heir);
        let mut command = std::process::Command::new(settings::cli()?);
        command.args(["failover", self.world.group, "--to", ordinal]).env("GANTRY_SERVER", self.server);
        process::output(&mut command, TAKES_OVER_WITHIN)?;
        self.taken_over()?;
        Ok(struck)
    }
}

fn struck(pod: &Pod) -> Struck {
    Struck { at: Instant::now(), whom: format!("{} on {}", pod.name, pod.node) }
}
