"""The report: a page that shows a batch, finished or running, without a server or a network."""
