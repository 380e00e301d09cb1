"""What people do at the desk, one function per question or action, shared by REST and console: both behave alike.

Each function takes the actor (to ask) or ``By`` (to change), asks ``core.access`` at the moment of use, hands out only
what the actor may see (anything else raises NotFound) and audits what it changes.

    tickets      inbox, inbox_counts, ticket_view, message_view, change_ticket
    answers      prepare, commit; cancel, hold, release, send_again, mark_sent
    deliveries   delivery_list, delivery_figures, delivery_report
    ledger       ledger_list, ledger_figures, replay, replay_all, dismiss, raw_of_ledger
    channels     channel_list, channel_view, create, change, remove, configuration_to_test, allow_test
    files        attachment, raw_of_message, kept
    live         Feed: what happened, for open pages
"""
