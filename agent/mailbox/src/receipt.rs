//! The receipt `mailready-receipt`: a line a message.
