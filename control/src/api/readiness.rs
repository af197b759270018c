//! Whether this process is to be asked, by the gRPC health checking protocol: whoever spreads calls over processes takes
//! one out that cannot do its work.

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Says of all services whether they are ready.
pub(crate) struct Readiness {
    health: HealthReporter,
    /// The empty name is the whole process.
    services: Vec<&'static str>,
}

impl Readiness {
    pub(super) fn new(health: HealthReporter) -> Self {
        Self { health, services: vec![""] }
    }

    pub(super) fn add(&mut self, service: &'static str) {
        self.services.push(service);
    }

    pub(super) async fn say(&self, is_ready: bool) {
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in &self.services {
            self.health.set_service_status(service, status).await;
        }
    }

    /// Says that they are not for as long as there is trouble.
    pub(crate) async fn tell(self, mut trouble: watch::Receiver<Option<String>>) {
        loop {
            let is_ready = trouble.borrow_and_update().is_none();
            self.say(is_ready).await;
            if trouble.changed().await.is_err() {
                return;
            }
        }
    }
}
