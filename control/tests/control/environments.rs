//! What may be done to an environment as a whole, and by whom.

use tonic::{Code, transport::Channel};
use weft_control_api::v1::{self, environments_client::EnvironmentsClient};
use weft_model::access::EnvironmentRole;

use crate::site::{Site, deletion, name, said, with};

struct Shop {
    site: Site,
    owner: String,
    id: String,
    environments: EnvironmentsClient<Channel>,
}

impl Shop {
    async fn open() -> Self {
        let site = Site::start().await;
        let owner = site.organisation("acme").await;
        let id = site.environment(&owner, "acme", "shop").await.id;
        let environments = EnvironmentsClient::new(site.connect(None).await);
        Self { site, owner, id, environments }
    }

    async fn suspend(&self, by: &str) -> v1::Environment {
        let suspend = v1::SuspendEnvironmentRequest { environment: name(&self.id) };
        self.environments.clone().suspend_environment(with(suspend, by)).await.unwrap().into_inner()
    }

    async fn resume(&self, by: &str) -> Result<v1::Environment, (Code, String)> {
        let resume = v1::ResumeEnvironmentRequest { environment: name(&self.id) };
        let resumed = self.environments.clone().resume_environment(with(resume, by)).await;
        match resumed {
            Ok(resumed) => Ok(resumed.into_inner()),
            refused => Err(said(refused)),
        }
    }

    async fn delete(
        &self,
        delete: v1::DeleteEnvironmentRequest,
    ) -> Result<v1::Environment, (Code, String)> {
        let deleted = self.environments.clone().delete_environment(with(delete, &self.owner)).await;
        match deleted {
            Ok(deleted) => Ok(deleted.into_inner()),
            refused => Err(said(refused)),
        }
    }
}

#[tokio::test]
async fn what_an_operator_suspended_only_an_operator_resumes() {
    let shop = Shop::open().await;
    let (owner, operator) = (&shop.owner, &shop.site.operator);
    let (active, suspended) = (v1::EnvironmentState::Active, v1::EnvironmentState::Suspended);
    // Who suspends their own resumes it, and so does an operator.
    assert!(!shop.suspend(owner).await.held);
    assert_eq!(shop.resume(owner).await.unwrap().state(), active);
    shop.suspend(owner).await;
    assert_eq!(shop.resume(operator).await.unwrap().state(), active);

    let held =
        (Code::FailedPrecondition, "an operator of the installation suspended it".to_owned());
    // Also one that was suspended already; suspending it again does not loosen it.
    shop.suspend(owner).await;
    assert!(shop.suspend(operator).await.held);
    assert!(shop.suspend(owner).await.held);
    assert_eq!(shop.resume(owner).await.unwrap_err(), held);
    // Nor does taking its deletion back.
    shop.delete(deletion(&shop.id, 90_000)).await.unwrap();
    let back = shop.resume(owner).await.unwrap();
    assert_eq!((back.state(), back.held), (suspended, true));
    assert_eq!(shop.resume(owner).await.unwrap_err(), held);
    let back = shop.resume(operator).await.unwrap();
    assert_eq!((back.state(), back.held), (active, false));
    shop.suspend(owner).await;
    assert_eq!(shop.resume(owner).await.unwrap().state(), active);
}

#[tokio::test]
async fn an_environment_that_is_to_go_within_a_day_asks_for_the_password() {
    let shop = Shop::open().await;
    for password in ["", "not the one"] {
        let delete = v1::DeleteEnvironmentRequest {
            password: password.into(),
            ..deletion(&shop.id, 86_399)
        };
        let (code, why) = shop.delete(delete).await.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{why}");
    }
    // A machine has none.
    let admin = shop.site.machine(&shop.id, EnvironmentRole::Admin);
    let reference = shop.id.parse().unwrap();
    let grace = |seconds| std::time::Duration::from_secs(seconds);
    let proof = || crate::site::proof(crate::site::PASSWORD);
    let app = &shop.site.app;
    let refused = app.delete_environment(&admin, &reference, grace(86_399), proof()).await;
    assert!(matches!(refused, Err(weft_control::AppError::Refused)), "{refused:?}");
    let found = shop.resume(&shop.owner).await.unwrap();
    assert_eq!(found.state(), v1::EnvironmentState::Active, "nothing was done");
    app.delete_environment(&admin, &reference, grace(86_400), proof()).await.unwrap();
    shop.resume(&shop.owner).await.unwrap();
    // Nobody is asked who gives it a day, and who is good has it gone at once.
    let day = v1::DeleteEnvironmentRequest { password: "".into(), ..deletion(&shop.id, 86_400) };
    assert_eq!(shop.delete(day).await.unwrap().state(), v1::EnvironmentState::Deleting);
    shop.resume(&shop.owner).await.unwrap();
    let gone = shop.delete(deletion(&shop.id, 0)).await.unwrap();
    assert_eq!(gone.state(), v1::EnvironmentState::Deleting);
}
