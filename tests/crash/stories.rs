//! Each story of [`crate::points`] is a test of its own.

use crate::points::{Story, dies_everywhere};

#[tokio::test]
async fn a_create_survives_death_at_every_point() {
    dies_everywhere(Story::Create).await;
}

#[tokio::test]
async fn a_create_with_a_config_drive_survives_death_at_every_point() {
    dies_everywhere(Story::CreateWithConfigDrive).await;
}

#[tokio::test]
async fn a_create_that_fails_says_why_and_leaves_nothing_whatever_dies_meanwhile() {
    dies_everywhere(Story::CreateThatFails).await;
}

#[tokio::test]
async fn a_delete_during_a_create_wins_whatever_dies_meanwhile() {
    dies_everywhere(Story::CreateThenDeleteAtOnce).await;
}

#[tokio::test]
async fn a_delete_after_a_death_during_a_create_wins() {
    dies_everywhere(Story::CreateThenDeleteAfterDeath).await;
}

#[tokio::test]
async fn a_start_survives_death_at_every_point() {
    dies_everywhere(Story::Start).await;
}

#[tokio::test]
async fn a_stop_survives_death_at_every_point() {
    dies_everywhere(Story::Stop).await;
}

#[tokio::test]
async fn a_soft_reboot_survives_death_at_every_point() {
    dies_everywhere(Story::RebootSoft).await;
}

#[tokio::test]
async fn a_hard_reboot_survives_death_at_every_point() {
    dies_everywhere(Story::RebootHard).await;
}

#[tokio::test]
async fn a_hard_reboot_of_a_stopped_server_survives_death_at_every_point() {
    dies_everywhere(Story::RebootHardOfStopped).await;
}

#[tokio::test]
async fn a_hard_reboot_of_a_suspended_server_survives_death_at_every_point() {
    dies_everywhere(Story::RebootHardOfSuspended).await;
}

#[tokio::test]
async fn a_pause_survives_death_at_every_point() {
    dies_everywhere(Story::Pause).await;
}

#[tokio::test]
async fn an_unpause_survives_death_at_every_point() {
    dies_everywhere(Story::Unpause).await;
}

#[tokio::test]
async fn a_suspend_survives_death_at_every_point() {
    dies_everywhere(Story::Suspend).await;
}

#[tokio::test]
async fn a_refused_suspend_leaves_the_server_running_whatever_dies_meanwhile() {
    dies_everywhere(Story::SuspendThatIsRefused).await;
}

#[tokio::test]
async fn a_resume_survives_death_at_every_point() {
    dies_everywhere(Story::Resume).await;
}

#[tokio::test]
async fn a_resume_that_fails_leaves_the_server_suspended_whatever_dies_meanwhile() {
    dies_everywhere(Story::ResumeThatFails).await;
}

#[tokio::test]
async fn an_attach_survives_death_at_every_point() {
    dies_everywhere(Story::Attach).await;
}

#[tokio::test]
async fn an_attach_to_a_stopped_server_survives_death_at_every_point() {
    dies_everywhere(Story::AttachOfStopped).await;
}

#[tokio::test]
async fn a_refused_attach_leaves_nothing_whatever_dies_meanwhile() {
    dies_everywhere(Story::AttachThatIsRefused).await;
}

#[tokio::test]
async fn a_detach_survives_death_at_every_point() {
    dies_everywhere(Story::Detach).await;
}

#[tokio::test]
async fn a_detach_from_a_stopped_server_survives_death_at_every_point() {
    dies_everywhere(Story::DetachOfStopped).await;
}

#[tokio::test]
async fn a_refused_detach_leaves_everything_whatever_dies_meanwhile() {
    dies_everywhere(Story::DetachThatIsRefused).await;
}

#[tokio::test]
async fn a_delete_of_a_paused_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfPaused).await;
}

#[tokio::test]
async fn a_delete_of_a_suspended_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfSuspended).await;
}

#[tokio::test]
async fn a_delete_survives_death_at_every_point() {
    dies_everywhere(Story::Delete).await;
}

#[tokio::test]
async fn a_delete_of_a_stopped_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfStopped).await;
}

#[tokio::test]
async fn a_delete_of_a_failed_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfFailed).await;
}

#[tokio::test]
async fn an_image_of_a_server_survives_death_at_every_point() {
    dies_everywhere(Story::CreateImage).await;
}

#[tokio::test]
async fn an_image_of_a_paused_server_survives_death_at_every_point() {
    dies_everywhere(Story::CreateImageOfPaused).await;
}

#[tokio::test]
async fn an_image_that_is_not_made_leaves_the_server_running_whatever_dies_meanwhile() {
    dies_everywhere(Story::CreateImageThatFails).await;
}

#[tokio::test]
async fn a_backup_survives_death_at_every_point_and_one_is_kept() {
    dies_everywhere(Story::CreateBackup).await;
}

#[tokio::test]
async fn a_rescue_survives_death_at_every_point() {
    dies_everywhere(Story::Rescue).await;
}

#[tokio::test]
async fn a_rescue_that_fails_says_why_and_leaves_the_servers_own_disks_whatever_dies_meanwhile() {
    dies_everywhere(Story::RescueThatFails).await;
}

#[tokio::test]
async fn an_unrescue_survives_death_at_every_point() {
    dies_everywhere(Story::Unrescue).await;
}

#[tokio::test]
async fn a_shelving_survives_death_at_every_point() {
    dies_everywhere(Story::Shelve).await;
}

#[tokio::test]
async fn a_shelving_of_a_suspended_server_survives_death_at_every_point() {
    dies_everywhere(Story::ShelveOfSuspended).await;
}

#[tokio::test]
async fn an_unshelving_survives_death_at_every_point() {
    dies_everywhere(Story::Unshelve).await;
}

#[tokio::test]
async fn an_unshelving_that_fails_leaves_the_server_shelved_whatever_dies_meanwhile() {
    dies_everywhere(Story::UnshelveThatFails).await;
}

#[tokio::test]
async fn a_delete_of_a_rescued_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfRescued).await;
}

#[tokio::test]
async fn a_delete_of_a_shelved_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfShelved).await;
}

#[tokio::test]
async fn an_image_import_survives_death_at_every_point() {
    dies_everywhere(Story::Import).await;
}

#[tokio::test]
async fn a_refused_image_import_says_why_and_leaves_nothing_whatever_dies_meanwhile() {
    dies_everywhere(Story::ImportThatIsRefused).await;
}

#[tokio::test]
async fn an_image_fetched_from_the_web_survives_death_at_every_point() {
    dies_everywhere(Story::WebDownload).await;
}

#[tokio::test]
async fn a_refused_image_of_the_web_says_why_and_leaves_nothing_whatever_dies_meanwhile() {
    dies_everywhere(Story::WebDownloadThatIsRefused).await;
}

#[tokio::test]
async fn a_rebuild_survives_death_at_every_point() {
    dies_everywhere(Story::Rebuild).await;
}

#[tokio::test]
async fn a_rebuild_of_a_stopped_server_survives_death_at_every_point() {
    dies_everywhere(Story::RebuildOfStopped).await;
}

#[tokio::test]
async fn a_resize_survives_death_at_every_point() {
    dies_everywhere(Story::Resize).await;
}

#[tokio::test]
async fn a_resize_of_a_stopped_server_survives_death_at_every_point() {
    dies_everywhere(Story::ResizeOfStopped).await;
}

#[tokio::test]
async fn a_confirmation_of_a_resize_survives_death_at_every_point() {
    dies_everywhere(Story::ConfirmResize).await;
}

#[tokio::test]
async fn a_resize_is_taken_back_whatever_dies_meanwhile() {
    dies_everywhere(Story::RevertResize).await;
}

#[tokio::test]
async fn a_change_of_password_survives_death_at_every_point() {
    dies_everywhere(Story::ChangePassword).await;
}

#[tokio::test]
async fn a_change_of_a_password_that_waits_for_a_booting_guest_survives_death_at_every_point() {
    dies_everywhere(Story::ChangePasswordOfNew).await;
}

#[tokio::test]
async fn a_change_of_a_password_that_finds_no_agent_survives_death_at_every_point() {
    dies_everywhere(Story::ChangePasswordThatFails).await;
}

#[tokio::test]
async fn a_delete_of_a_resized_server_survives_death_at_every_point() {
    dies_everywhere(Story::DeleteOfResized).await;
}
