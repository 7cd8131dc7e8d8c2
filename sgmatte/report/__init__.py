"""A run's photos as one page to look through: before and after, alphas, cut-outs, and which trimaps were unsure.

`page.write_report` turns records into one HTML file and a folder of small pictures beside it; page.html, page.css and
the scripts are its parts. The page needs no network, no server and no framework.
"""
