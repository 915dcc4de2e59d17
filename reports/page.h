/* Private to reports/: style and script of the page. Everything is inline, nothing is fetched. */
#ifndef PB_REPORTS_PAGE_H
#define PB_REPORTS_PAGE_H

extern const char rp_page_style[];
extern const char rp_page_script[];

#endif
