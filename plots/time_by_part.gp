# Stacked time of a traced step. Blocks 0..NPARTS-1: parts; the last: end of bar, row, whole step in ms.
load substr(TEMPLATE, 1, strlen(TEMPLATE)-strlen('time_by_part.gp')) . 'stacked.gp'
set xlabel XNAME textcolor rgb INK
plot for [i=1:NPARTS] DATA index i-1 using 1:2:3:4:5:6 with boxxyerror linecolor rgb KEYCOLOUR[i] notitle, \
     DATA index NPARTS using 1:2:3 with labels left offset 0.4,0 textcolor rgb INK notitle
