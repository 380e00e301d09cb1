"""The scripted mails: problems of customers of a small web shop, written by many mail programs in many languages."""
