"""
From the API's result files to landed answers and failures, with an outcome for every request.

Stands above ``requests``, for failed requests become the request files of the next round (``resubmission``).
"""
