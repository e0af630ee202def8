"""The gateway's own API: chat, resume, recovery, conversations, history, titles, images."""
