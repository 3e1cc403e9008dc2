//! Bugs, planted to see that the checkers find them. They sit where the simulator feeds the core or carries its word
//! out, never in the product: what a core would do that ignores a token is what this one does when the token it is
//! given is always the right one.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Bug {
    /// A report settles whatever attempt of that number runs, whoever it is from.
    SettledWithoutToken,
    /// A backoff is stored without the time it ends.
    DueTimeForgotten,
    /// Outputs leave before the commit is done.
    ReleasedBeforeCommit,
    /// A rollback leaves in memory what it took from the disk.
    OverlayKept,
    /// A shim starts its command without a claim.
    StartedWithoutClaim,
    /// After a restart, what runs is started again.
    RunAgain,
    /// A machine that went down is held against the task.
    HostLostIsPoison,
    /// After a restart of the machine, a missing claim is believed.
    MissingClaimBelieved,
    /// What a killed shim had started is left alone.
    TreeLeft,
    /// A shim obeys any gateway.
    StaleGatewayObeyed,
    /// In safe mode a task is set aside at the first gateway that ended while it was tried.
    SetAsideAtOnce,
    /// In safe mode nobody writes down which task is tried.
    SuspectForgotten,
    /// The time to live of what is held goes on.
    HeldExpires,
    /// That an attempt is evicted is not written down.
    EvictionForgotten,
    /// A shim that is found again is told only to pause, never to go on.
    ResumeNotRepeated,
    /// A shim rests though another claim stands beside its own, and removes that one.
    RestsBesideClaims,
    /// A folder is given away though another attempt of its task is in it.
    GivenWithAnother,
    /// Where logs are kept, the void claim beside them goes. Not planted at first: a seed found it.
    VoidClaimSwept,
}

impl Bug {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::SettledWithoutToken,
        Self::DueTimeForgotten,
        Self::ReleasedBeforeCommit,
        Self::OverlayKept,
        Self::StartedWithoutClaim,
        Self::RunAgain,
        Self::HostLostIsPoison,
        Self::MissingClaimBelieved,
        Self::TreeLeft,
        Self::StaleGatewayObeyed,
        Self::SetAsideAtOnce,
        Self::SuspectForgotten,
        Self::HeldExpires,
        Self::EvictionForgotten,
        Self::ResumeNotRepeated,
        Self::RestsBesideClaims,
        Self::GivenWithAnother,
        Self::VoidClaimSwept,
    ];
}
