//! Blocks and steps: one byte on the wire, a stable word for programs and logs.

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word for programs and logs.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// From its code on the wire.
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|each| *each as u8 == code)
            }
        }
    };
}

codes! {
    /// What keeps a mailbox from being converted, or from being given back. "Position" is a mailbox's number in the run, 0 being the inbox; which one that is, and why, the worker has said on its
    /// standard error, since names never go over the wire.
    Block {
        /// There is something at the Maildir's path already.
        MaildirExists = 1 "maildir-exists",
        /// The home is not there.
        HomeMissing = 2 "home-missing",
        /// The home, or the folder that is to hold the Maildir, is not the user's own.
        HomeForeign = 3 "home-foreign",
        /// Work folder and Maildir, or work folder and mbox folders, lie on different mounts.
        OtherMount = 4 "other-mount",
        /// The work folder is a link, no folder, or another's.
        WorkForeign = 5 "work-foreign",
        /// The spool is no mbox by Dovecot's rules; detail: offset.
        NotMbox = 6 "not-mbox",
        /// More than 26 keywords and no index that has them; detail: position.
        Keywords = 7 "keywords",
        /// No room, no quota; detail: error number.
        NoRoom = 9 "no-room",
        /// A user-level conversion, drain or other work on this mailbox is under way elsewhere.
        WorkBusy = 10 "work-busy",
        /// The Maildir of a converted user is gone or has another run's marker.
        MaildirLost = 11 "maildir-lost",
        /// The file system cannot rename or exchange as is needed.
        NoRename = 12 "no-rename",
        /// A file system that is read-only.
        ReadOnly = 13 "read-only",
        /// A folder's name cannot be kept in the Maildir's layout; or, on the way back, in the mbox tree. Detail: position.
        Names = 14 "names",
        /// A symbolic link to a file or folder below the mbox root; detail: how many.
        Link = 15 "link",
        /// What Dovecot tells of a mailbox is not what its file says, again and again; detail: position.
        Differs = 16 "differs",
        /// More mailboxes, or deeper ones, than one commit can hold safely; detail: how many are too many.
        TooManyFolders = 17 "too-many-folders",
        /// The mbox root is the Maildir's place, or one lies within the other.
        SameRoot = 18 "same-root",
        /// A mailbox's UIDs are used up; detail: position.
        UidsUsedUp = 19 "uids-used-up",
        /// A file below the mbox root, or its folder, is another's, or the user may not write it; detail: position.
        FolderForeign = 20 "folder-foreign",
        /// On the way back: a message that no mbox can hold as it is; detail: its UID.
        NotRepresentable = 21 "not-representable",
        /// On the way back: a mailbox with messages that has mailboxes below it; detail: position.
        MailWithChildren = 22 "mail-with-children",
        /// On the way back: something that is not ours stands where a folder belongs; detail: position.
        PlaceTaken = 23 "place-taken",
        /// An original is not where it was set aside; detail: position.
        OriginalLost = 24 "original-lost",
        /// A mailbox does not read as an mbox at this moment, and another program is at work in it; detail: position. It passes.
        Rewritten = 25 "rewritten",
        /// Dovecot shows the stage otherwise than the mbox; detail: how many differences.
        StageDiffers = 26 "stage-differs",
    }
}

codes! {
    /// The worker's steps, named as in ARCHITECTURE.md.
    Step {
        /// Becoming the user.
        Become = 1 "become",
        /// Landlock and system-call filter.
        Sandbox = 2 "sandbox",
        /// Opening home, work folder and so on.
        Open = 3 "open",
        /// Writing the stage.
        Stage = 4 "stage",
        /// Reading the stage back.
        Verify = 5 "verify",
        /// Bringing the stage up to date.
        Refresh = 6 "refresh",
        /// Comparing under the locks.
        Confirm = 7 "confirm",
        /// Syncing all of the stage.
        Seal = 8 "seal",
        /// The rename.
        Commit = 9 "commit",
        /// Syncing the rename.
        SyncCommit = 10 "sync_commit",
        /// Writing new mail into the drain folder.
        Extract = 11 "extract",
        /// Publishing the drain folder.
        Extracted = 12 "extracted",
        /// Moving messages to new/.
        Deliver = 13 "deliver",
        /// Syncing new/.
        Delivered = 14 "delivered",
        /// Removing the stage.
        Abort = 15 "abort",
        /// Looking at what is there.
        Probe = 16 "probe",
        /// Making a folder's tombstone.
        FolderTombstone = 17 "folder_tombstone",
        /// Dotlock, kernel lock and lease of the folders.
        LockFolders = 18 "lock_folders",
        /// Exchanging a folder's mbox for its tombstone.
        SetAsideFolder = 19 "set_aside_folder",
        /// Syncing the exchanges.
        SyncSetAsideFolders = 20 "sync_set_aside_folders",
        /// Exchanging what stands at a folder's old place for a fresh tombstone.
        RotateFolder = 21 "rotate_folder",
        /// Removing a tombstone that is drained.
        ForgetFolder = 22 "forget_folder",
        /// Writing the mailboxes as mboxes.
        BackStage = 23 "back_stage",
        /// Reading them back.
        BackVerify = 24 "back_verify",
        /// Putting the mark into the work folder.
        BackMark = 25 "back_mark",
        /// Comparing under the locks, on the way back.
        BackConfirm = 26 "back_confirm",
        /// Taking the Maildir out of its place.
        Withdraw = 27 "withdraw",
        /// Syncing that.
        SyncWithdraw = 28 "sync_withdraw",
        /// Adding late mail.
        BackLate = 29 "back_late",
        /// Exchanging a tombstone for its folder's mbox.
        BackFolder = 30 "back_folder",
        /// Syncing those.
        SyncBackFolders = 31 "sync_back_folders",
        /// Putting the index files back.
        BackIndex = 32 "back_index",
        /// Removing the mark and the file at the Maildir's path.
        BackDone = 33 "back_done",
        /// Laying the originals out for Dovecot.
        CheckPrepare = 34 "check_prepare",
        /// Comparing.
        CheckCompare = 35 "check_compare",
        /// Dropping the folders' locks.
        UnlockFolders = 36 "unlock_folders",
        /// Removing a folder's original.
        LetGoFolder = 37 "let_go_folder",
        /// Carrying mail out of a Maildir that a deliverer made anew after a rollback.
        TakeStray = 38 "take_stray",
        /// Laying copies of mboxes and stage out for Dovecot.
        ProofPrepare = 39 "proof_prepare",
        /// Comparing what it shows of them.
        ProofCompare = 40 "proof_compare",
    }
}
