"""A run's photos as one page to look through: before and after, alphas, cut-outs, and which trimaps were unsure.

`write_report` turns records into one HTML file and a folder of small pictures beside it; page.html, page.css and the
scripts are its parts. The page needs no network, no server and no framework.
"""

from sgmatte.report.page import write_report as write_report
from sgmatte.report.records import Record as Record
from sgmatte.report.records import record_of as record_of
